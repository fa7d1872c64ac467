"""A progress bar on a terminal; elsewhere, as in a log file, a plain line every 30 seconds."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 30.0
LINE = "{desc}: {percentage:.0f}%, {n:.4g} of {total:.4g} {unit}, after {elapsed}, {remaining} left"


class _Lines:
    """A file that gets whole lines instead of one that is drawn again and again."""

    def __init__(self, file: TextIO):
        self.file = file

    def write(self, text: str) -> None:
        if text.strip():
            self.file.write(text.strip() + "\n")

    def flush(self) -> None:
        self.file.flush()


class Progress(tqdm):
    """tqdm with two faces; what takes less than 30 seconds says nothing where there is no terminal."""

    def __init__(self, *args: Any, file: TextIO | None = None, **options: Any):
        file = file or sys.stderr
        self.on_terminal = file.isatty()
        if not self.on_terminal:
            options |= {"mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "leave": True}
            options |= {"bar_format": LINE, "desc": options.get("desc", "done")}
        options["file"] = file if self.on_terminal else _Lines(file)
        super().__init__(*args, **options)

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """What is worked on, at the end of the bar; it makes no line of its own."""
        super().set_postfix_str(s, refresh and self.on_terminal)

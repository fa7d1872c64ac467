"""What long work shows of itself: log lines, and a progress bar on a terminal.

Elsewhere, as in a log file, the bar is a plain line every 30 seconds.
"""

import errno
import logging
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
    """tqdm with two faces; what takes less than 30 seconds says nothing where there is no terminal.

    Without ``lines`` nothing ever does there: for work that logs lines of its own.
    """

    def __init__(self, *args: Any, file: TextIO | None = None, lines: bool = True, **options: Any):
        file = file or sys.stderr
        self.on_terminal = file.isatty()
        if not (self.on_terminal or lines):
            options["disable"] = True
        if not self.on_terminal:
            options |= {"mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "leave": True}
            options |= {"bar_format": LINE, "desc": options.get("desc", "done")}
        options["file"] = file if self.on_terminal else _Lines(file)
        super().__init__(*args, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What is shown; where more comes than was expected, the end is reached and no time is left."""
        shown = dict(super().format_dict)
        if shown["total"]:
            shown["n"] = min(shown["n"], shown["total"])
        return shown

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """What is worked on, at the end of the bar; it makes no line of its own."""
        super().set_postfix_str(s, refresh and self.on_terminal)


class _ConsoleHandler(logging.Handler):
    """Log lines on stdout, above the progress bar on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EIO:  # which says that the terminal is gone: the work goes on, and is saved
                raise


def log_to_console() -> None:
    """Shows the ``ssiu`` log on stdout, once."""
    log = logging.getLogger("ssiu")
    log.setLevel(logging.INFO)
    if not log.handlers:
        handler = _ConsoleHandler()
        handler.addFilter(lambda record: record.levelno < logging.ERROR)  # what ends a command is its last line anyway
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)

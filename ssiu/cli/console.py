"""What the commands share: how they describe themselves, and the log on the terminal."""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from ssiu.errors import ConfigError, one_line

log = logging.getLogger("ssiu")


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own hides that a disk is full


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of ``ssiu name``; ``description``, the command's docstring, keeps its lines."""
    return _Parser(prog=f"ssiu {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def terminal_width() -> int:
    """Columns of the terminal; 120 where the output goes elsewhere."""
    return shutil.get_terminal_size((120, 24)).columns


def named_path(argument: str) -> tuple[str | None, Path]:
    """What ``NAME=PATH`` or a bare path, which has no name, means."""
    name, equals, path = argument.partition("=")
    return (name, Path(path)) if equals and path and not Path(argument).exists() else (None, Path(argument))


def named_paths(arguments: Sequence[str]) -> dict[str, Path]:
    """``NAME=PATH`` arguments, their names for display; a bare path is named after its last part.

    ConfigError (78) for two of one name.
    """
    found: dict[str, Path] = {}
    for name, path in map(named_path, arguments):
        name = one_line(name or (path.absolute().name if path.is_dir() else path.stem))
        if name in found:
            raise ConfigError(f"{found[name]} and {path} are both called '{name}'; give one of them as NAME={path}")
        found[name] = path
    return found


class _ConsoleHandler(logging.Handler):
    """Log lines on stdout, above the progress bar on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def log_to_console() -> None:
    """Shows the ``ssiu`` log on stdout, once."""
    log.setLevel(logging.INFO)
    if not log.handlers:
        handler = _ConsoleHandler()
        handler.addFilter(lambda record: record.levelno < logging.ERROR)  # what ends a command is its last line anyway
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)

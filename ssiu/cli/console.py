"""What the commands share: how they describe themselves, and the log on the terminal."""

import argparse
import logging
import sys

from tqdm import tqdm

log = logging.getLogger("ssiu")


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of ``ssiu name``; ``description``, the command's docstring, keeps its lines."""
    return argparse.ArgumentParser(
        prog=f"ssiu {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


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
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)

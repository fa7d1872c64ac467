"""What the commands share: how they describe themselves, log to the terminal, and end."""

import argparse
import contextlib
import io
import logging
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ssiu.errors import (
    DISK_FULL,
    ConfigError,
    DeviceMemoryError,
    MissingInputError,
    SaveError,
    SSIUError,
    first_line,
    is_out_of_memory,
    one_line,
)

log = logging.getLogger("ssiu")

BROKEN_PIPE = 128 + 13  # SIGPIPE, which Windows does not know


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own hides that a disk is full


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of ``ssiu name``; ``description``, the command's docstring, keeps its lines."""
    return _Parser(prog=f"ssiu {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def command_given(name: str, argv: Sequence[str]) -> str:
    """The command line that began this process, to be kept with what it made: ``python test.py ...`` in a clone."""
    scripts = {f"{name}.py": ["python", f"{name}.py"], "__main__.py": ["python", "-m", "ssiu", name]}
    started = scripts.get(Path(sys.argv[0]).name, ["ssiu", name])
    return shlex.join([*started, *argv])


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


OF_MODELS = re.compile(r"(model|model_args|rgb_range|scale)=.+", re.DOTALL)


def without_model(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """``argv`` without the keys that name a model of one's own, and those: ``model=FILE.py:Class scale=2``.

    Raises ConfigError (78) for such keys without the model itself, whose config --config then names.
    """
    keys = [word for word in argv if OF_MODELS.fullmatch(word) and not os.path.lexists(word)]
    if keys and "--config" not in argv and not any(word.startswith("model=") for word in keys):
        raise ConfigError(f"command line: {keys[0]} is for a model of your own; say which: model=FILE.py:Class")
    return [word for word in argv if word not in keys], keys


def run_cli(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs ``main(argv)`` and exits with the error's exit code; ``--debug`` keeps the traceback.

    ``--debug`` is taken out of ``argv`` before ``main`` sees it.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    _replace_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    try:
        try:
            code = main(argv) or 0
        except SystemExit as ended:  # argparse's
            code = int(ended.code or 0)
        sys.stdout.flush()  # what cannot be written shows here, not when Python is gone already
    except SSIUError as error:
        if debug:
            raise
        _say(f"error: {one_line(error)}")
        code = error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        _say("stopped")
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        code = BROKEN_PIPE
    except Exception as error:
        refused = None if debug else _refused(error)
        if refused is None:
            raise
        line, code = refused
        _say(f"error: {one_line(line)}")
    try:
        sys.stdout.flush()
    except OSError:  # Python would try once more as it ends, and end in 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _say(line: str) -> None:
    """The last line of a command; where the terminal is gone the exit code says it alone."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _replace_closed_streams() -> None:
    """What `>&-` or a service manager has closed goes nowhere, and no file that is opened later takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  (for as long as the process lives)


def _refused(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code of what the system refuses where no command expects it; None for a fault of ours."""
    if is_out_of_memory(error):
        line = f"out of memory ({first_line(error)[:120]}); use smaller images or another device"
        return line, DeviceMemoryError.exit_code
    if not isinstance(error, OSError):
        return None
    doing, code = ("write", SaveError.exit_code) if error.errno in DISK_FULL else ("use", MissingInputError.exit_code)
    return f"cannot {doing} {error.filename or 'the output of this command'}: {error.strerror}", code

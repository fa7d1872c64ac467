"""Everything that can go wrong for a user, with the exit code it ends in.

A command line ends with one line on stderr that says what happened, which file or key, what was
expected, what was found and what to do. The codes follow ``sysexits.h`` so that scripts can tell
"fix the config" (78) from "try again" (75).
"""

import errno
import unicodedata
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
OUT_OF_MEMORY = (  # what torch, its CPU allocator, ONNX Runtime, OpenCV and 32-bit operators say, in lower case
    "out of memory",
    "allocate memory",
    "not enough memory",
    "insufficient memory",
    "_status_alloc_failed",  # cuBLAS and cuDNN
    "32-bit index math",
)


class SSIUError(Exception):
    """An error a user can act on; ``str(error)`` is the one line shown."""

    exit_code = 1


class ConfigError(SSIUError):
    """A config key, a command-line value or their combination cannot be used."""

    exit_code = 78


class MissingInputError(SSIUError):
    """A file, folder or test set that was asked for is not there."""

    exit_code = 66


class BadInputError(SSIUError):
    """An image, an LR/HR pair or a checkpoint is there but is not usable."""

    exit_code = 65


class DeviceMemoryError(SSIUError):
    """The device ran out of memory."""

    exit_code = 69


class NonFiniteError(SSIUError):
    """A loss, gradient or weight is NaN or infinite."""

    exit_code = 70


class OutputError(SSIUError):
    """The output folder or file cannot be created, or would overwrite something."""

    exit_code = 73


class SaveError(SSIUError):
    """Writing failed part-way (disk full, quota); what was there before is intact."""

    exit_code = 74


class BusyError(SSIUError):
    """Somebody else holds the folder, a worker or rank died, or a server did not answer: trying again can help."""

    exit_code = 75


class StoppedError(SSIUError):
    """A signal asked for a stop and the state has been saved."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


def first_names(names: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 7 more``."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(number: int, noun: str) -> str:
    """``1 image``, ``3,450 images``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def one_line(message: object) -> str:
    """Its text; line ends, control characters and what is no UTF-8, which a file name may hold, are escaped."""
    escaped = ("Cc", "Cs", "Zl", "Zp")
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in escaped else c for c in str(message))


def quoted(said: object, most: int) -> str:
    """What a file or a server says, in ASCII without control characters, cut after ``most``."""
    return ascii(str(said))[1:-1][:most]


def first_line(error: BaseException) -> str:
    """What ``error`` says, up to its first line end; the name of its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an allocation that failed, on any device, or a map too large for an operator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, not imported here
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)

"""How a command ends when what went wrong is no error of ours, and how it is written down."""

import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from ssiu.cli.console import command_given, run_cli
from ssiu.errors import BadInputError

HUGE = 2**50  # bytes: more than a process can address


def _refused_by_opencv() -> None:
    raise cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 7 bytes")


@pytest.mark.parametrize(
    ("allocate", "said"),
    [
        (lambda: torch.empty(HUGE, dtype=torch.uint8), "memory"),
        (lambda: np.empty(HUGE, np.uint8), "Unable to allocate 1.00 PiB"),
        (lambda: bytearray(HUGE), "MemoryError"),
        (_refused_by_opencv, "Insufficient memory"),
    ],
    ids=["torch", "numpy", "python", "opencv"],
)
def test_running_out_of_memory_anywhere_is_one_line(
    allocate: Callable[[], object], said: str, capsys: pytest.CaptureFixture
) -> None:
    def main(_: object) -> None:
        allocate()

    with pytest.raises(SystemExit) as ended:
        run_cli(main, [])
    error = capsys.readouterr().err
    assert ended.value.code == 69 and error.count("\n") == 1
    assert error.startswith("error: out of memory (") and said in error


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInputError("a\nb\x1b[2J é\u2028.png: damaged"), 65), (FileNotFoundError(2, "none", "a\nb"), 66)],
)
def test_an_error_is_one_line_whatever_a_file_is_called(
    error: Exception, code: int, capsys: pytest.CaptureFixture
) -> None:
    def main(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_cli(main, [])
    printed = capsys.readouterr().err
    assert ended.value.code == code and len(printed.splitlines()) == 1 and r"a\nb" in printed
    assert code != 65 or printed == "error: a\\nb\\x1b[2J é\\u2028.png: damaged\n"


@pytest.mark.parametrize(
    ("error", "arguments"), [(RuntimeError("shapes differ"), []), (MemoryError("no room"), ["--debug"])], ids=str
)
def test_a_mistake_of_ours_and_debug_keep_the_traceback(error: Exception, arguments: list[str]) -> None:
    def main(_: object) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_cli(main, arguments)
    assert caught.value is error


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("test.py", "python test.py 'a b'"),
        ("/a/clone/test.py", "python test.py 'a b'"),
        ("/usr/lib/python3/site-packages/ssiu/__main__.py", "python -m ssiu test 'a b'"),
        ("/usr/bin/ssiu", "ssiu test 'a b'"),
        ("somebody's.py", "ssiu test 'a b'"),
    ],
)
def test_the_command_is_written_down_as_it_was_given(program: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "ignored"])
    assert command_given("test", ["a b"]) == line

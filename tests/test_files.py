"""Files appear whole or not at all, under any name, and never in the place of another where that was not asked for."""

import errno
import json
import os
import signal
import stat
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest
from faults import in_child

from ssiu.errors import OutputError
from ssiu.files import nonempty_path, remove_leftovers, write_atomically


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ü" * 125 + ".json"])
def test_a_name_of_255_bytes_is_written(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) == 255
    write_atomically(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_name_the_file_system_refuses_is_not_a_full_disk(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(OutputError, match="File name too long; choose another name"):
        write_atomically(tmp_path / ("x" * 256), b"", overwrite)
    if overwrite:
        (tmp_path / "folder").mkdir()
        with pytest.raises(OutputError, match="Is a directory; choose another name"):
            write_atomically(tmp_path / "folder", b"")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["absent/a", "file/a", "/proc/a", "/sys/a"])
def test_a_folder_that_takes_no_file_is_not_a_full_disk(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(OutputError, match=rf"cannot write \S*{name}: [A-Z][a-z ]+; choose another folder"):
        write_atomically(tmp_path / name, b"")


@pytest.mark.parametrize("refused", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced_takes_the_file(
    tmp_path: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = getattr(os, refused)

    def of_files_only(what: Any, *arguments: Any) -> Any:
        if stat.S_ISDIR((os.fstat if refused == "fsync" else os.stat)(what).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as some file systems do
        return really(what, *arguments)

    monkeypatch.setattr(os, refused, of_files_only)
    write_atomically(tmp_path / "a", b"whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


@pytest.mark.parametrize("links", [True, False])
def test_without_overwrite_what_appears_meanwhile_is_kept(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", refused)  # as exFAT does

    def parts():
        yield b"half"
        (tmp_path / "a").write_bytes(b"precious")
        yield b" and half"

    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", parts(), overwrite=False)
    write_atomically(tmp_path / "b", b"new", overwrite=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"precious", "b": b"new"}
    write_atomically(tmp_path / "a", b"replaced")
    assert (tmp_path / "a").read_bytes() == b"replaced"


def test_of_many_writers_of_one_name_one_wins_and_its_file_is_whole(tmp_path: Path) -> None:
    ready, go = os.pipe()
    children = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(ready, 1)  # until the parent lets all of them start
            try:
                write_atomically(tmp_path / "a", bytes([number]) * 100_000, overwrite=False)
                os._exit(0)
            except FileExistsError:
                os._exit(17)
            finally:
                os._exit(1)
        children.append(pid)
    os.close(ready), os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert sorted(codes) == [0] + [17] * 7
    assert (tmp_path / "a").read_bytes() == bytes([codes.index(0)]) * 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_stays(tmp_path: Path) -> None:
    def killed() -> None:
        def parts():
            yield b"half"
            os.kill(os.getpid(), signal.SIGKILL)

        write_atomically(tmp_path / "killed", parts())

    assert in_child(killed)[0] == -signal.SIGKILL
    others = {".mine.part": b"download", "notes.part": b"mine"}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    assert len(list(tmp_path.iterdir())) == 3
    seen = []

    def parts():
        yield b"half"
        _, names = in_child(lambda: remove_leftovers(tmp_path) or json.dumps([p.name for p in tmp_path.iterdir()]))
        seen.append(json.loads(names))
        yield b" and half"

    write_atomically(tmp_path / "a", parts())
    assert len(seen[0]) == 3 and set(others) < set(seen[0])  # of the two temporaries, the one being written is left
    assert (tmp_path / "a").read_bytes() == b"half and half"
    assert {path.name for path in tmp_path.iterdir()} == {"a", *others}


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ArgumentTypeError, match="expected a name, got ''"):
        nonempty_path("")
    assert nonempty_path(".") == Path()

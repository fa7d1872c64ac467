"""One file over HTTP: in the end it is the right one, or there is one clear line and nothing that looks like it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults import in_child, limit_file_size
from file_server import FileServer, serving

from ssiu.download.http import Connection, Source, digest_of, fetch, require_space
from ssiu.errors import BadInputError, BusyError, OutputError, SaveError

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
IMPATIENT = Connection(timeout=0.3, attempts=3, wait=0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        server.files["/a.zip"] = server.files["/moved/a.zip"] = CONTENT
        yield server


def source_of(server: FileServer, **facts) -> Source:
    known = {"bytes": len(CONTENT), "digest": "sha256:" + hashlib.sha256(CONTENT).hexdigest()}
    return Source(url=server.url("/a.zip"), **(known | facts))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


PASSING = {  # what the server does before it serves well, and from which byte the last request asks
    "cut": "50000", "stall": "50000", "silence": None, "ignores range": None, "other piece": None, "redirect": None,
    "busy": None, "nonsense": None, "chunks cut": None, "no length": None,
}  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_ends_with_the_right_file(tmp_path: Path, server: FileServer, fault: str) -> None:
    server.faults["/a.zip"] = [fault]
    path = fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)
    assert path.read_bytes() == CONTENT and left(tmp_path) == {"a.zip"}
    if PASSING[fault]:
        assert server.requests[-1] == ("/a.zip", f"bytes={PASSING[fault]}-")


LASTING = {
    "page": (BadInputError, "sends a web page"),
    "page as file": (BadInputError, "49 bytes, expected 100,000"),
    "truncated": (BadInputError, "50,000 bytes, expected 100,000"),
    "tampered": (BadInputError, "its sha256 digest is .*, expected .*; nothing of it was kept"),
    "length too large": (BadInputError, "101,000 bytes, expected 100,000"),
    "length too small": (BadInputError, "99,000 bytes, expected 100,000"),
    "endless": (BadInputError, "sends more than 100,000 bytes"),
    "gone": (BadInputError, "answers 404 Not Found"),
    "redirect loop": (BadInputError, "answers 302"),
    "redirect to file": (BadInputError, "answers 302"),
    "busy": (BusyError, "answers 503"),
    "silence": (BusyError, "nothing came for 0.3 s$"),
    "stall": (BusyError, r"nothing came for 0.3 s; the [\d,]+ bytes that arrived are kept"),
    "ignores range and cuts": (BusyError, "ended 50,000 bytes early"),
    "weak tag": (BusyError, "ended 50,000 bytes early"),
    "nonsense": (BusyError, "connection failed"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_ends_with_one_line_and_no_file(tmp_path: Path, server: FileServer, fault: str) -> None:
    kind, expected = LASTING[fault]
    server.always["/a.zip"] = fault
    with pytest.raises(kind, match=expected) as caught:
        fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)
    assert "\n" not in str(caught.value) and server.url("/a.zip") in str(caught.value)
    assert "a.zip" not in left(tmp_path)
    if kind is BadInputError:
        assert left(tmp_path) == set()
    del server.always["/a.zip"]
    assert fetch(source_of(server), tmp_path / "a.zip", IMPATIENT).read_bytes() == CONTENT
    assert left(tmp_path) == {"a.zip"}


def test_a_later_run_asks_for_the_rest_only_of_the_same_file(tmp_path: Path, server: FileServer) -> None:
    server.always["/a.zip"] = "cut"
    once = Connection(timeout=0.3, attempts=1, wait=0)
    for start in (None, "bytes=50000-", "bytes=75000-"):
        with pytest.raises(BusyError):
            fetch(source_of(server), tmp_path / "a.zip", once)
        assert server.requests[-1][1] == start
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:87500]
    other = CONTENT[::-1]
    server.files["/a.zip"] = other
    server.always.clear()
    source = source_of(server, digest="sha256:" + hashlib.sha256(other).hexdigest())
    assert fetch(source, tmp_path / "a.zip", once).read_bytes() == other


def test_a_part_that_was_damaged_on_disk_is_fetched_again(tmp_path: Path, server: FileServer) -> None:
    server.always["/a.zip"] = "cut"
    with pytest.raises(BusyError):
        fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)
    part = tmp_path / "a.zip.part"
    part.write_bytes(bytes(part.stat().st_size))
    server.always.clear()
    assert fetch(source_of(server), tmp_path / "a.zip", IMPATIENT).read_bytes() == CONTENT


def test_a_transfer_that_ended_before_its_rename_needs_no_byte_more(tmp_path: Path, server: FileServer) -> None:
    for facts in ({}, {"bytes": None, "about": len(CONTENT)}):
        fetch(source_of(server), tmp_path / "a.zip", IMPATIENT).rename(tmp_path / "a.zip.part")
        tag = hashlib.sha256(CONTENT).hexdigest()[:8]
        (tmp_path / "a.zip.part.validator").write_text(f'"{tag}"')
        server.faults["/a.zip"] = ["good", "gone"]
        if not facts:
            server.faults["/a.zip"] = ["gone"]
        assert fetch(source_of(server, **facts), tmp_path / "a.zip", IMPATIENT).read_bytes() == CONTENT
        assert left(tmp_path) == {"a.zip"}
        (tmp_path / "a.zip").unlink()
        server.faults.clear()


def test_a_file_that_is_there_and_right_is_not_asked_for(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)
    assert server.requests == []


def test_without_a_size_more_than_four_times_what_is_expected_is_refused(tmp_path: Path, server: FileServer) -> None:
    for fault in ("good", "endless"):
        server.always["/a.zip"] = fault
        with pytest.raises(BadInputError, match=r"expected about 20,000|more than 80,000 bytes"):
            fetch(source_of(server, bytes=None, about=20_000), tmp_path / "a.zip", IMPATIENT)
        assert left(tmp_path) == set()


def test_digests_are_those_of_the_usual_tools(tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert digest_of(tmp_path / "hello", "git") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert digest_of(tmp_path / "hello", "md5") == "b1946ac92492d2347c6235b4d2611184"  # md5sum


def test_a_disk_that_fills_up_keeps_what_arrived(tmp_path: Path, server: FileServer) -> None:
    def task() -> None:
        limit_file_size(30_000, kill=False)
        fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)

    code, message = in_child(task)
    assert code == SaveError.exit_code and "cannot write" in message and "it goes on there" in message
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:30_000]
    assert fetch(source_of(server), tmp_path / "a.zip", IMPATIENT).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=30000-"


def test_a_folder_in_the_way_is_no_full_disk(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a\.zip\.part: Is a directory; choose another name"):
        fetch(source_of(server), tmp_path / "a.zip", IMPATIENT)


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"DF2K needs 1000000\.00 GB in .* GB are free.*--to"):
        require_space(tmp_path, 10**15, "DF2K")


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BusyError, match=r"connection failed .*refused"):
        fetch(Source(url="http://127.0.0.1:9/a.zip", about=1), tmp_path / "a.zip", IMPATIENT)


def test_only_http_is_spoken() -> None:
    for url in ("file:///etc/passwd", "ftp://host/a"):
        with pytest.raises(ValueError, match="url"):
            Source(url=url)

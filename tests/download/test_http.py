"""One file over HTTP: in the end it is the right one, or there is one clear line and nothing that looks like it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults import in_child, limit_file_size
from file_server import FileServer, impatient, serving

from ssiu.data.catalog import Source
from ssiu.download import http
from ssiu.download.http import digest_of, fetch
from ssiu.errors import BadInputError, BusyError, OutputError, SaveError

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    impatient(monkeypatch)
    with serving() as server:
        server.files["/a.zip"] = server.files["/moved/a.zip"] = CONTENT
        yield server


def source_of(server: FileServer, **facts) -> Source:
    known = {"about": len(CONTENT), "digest": "sha256:" + hashlib.sha256(CONTENT).hexdigest()}
    return Source(url=server.url("/a.zip"), **(known | facts))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


PASSING = {  # what the server does before it serves well, and from which byte the last request asks
    "cut": "50000", "stall": "50000", "silence": None, "ignores range": None, "redirect": None, "busy": None,
    "nonsense": None, "no length": None, "superscript length": None, "length of 5000 digits": None,
}  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_ends_with_the_right_file(tmp_path: Path, server: FileServer, fault: str) -> None:
    server.faults["/a.zip"] = [fault]
    path = fetch(source_of(server), tmp_path / "a.zip")
    assert path.read_bytes() == CONTENT and left(tmp_path) == {"a.zip"}
    if PASSING[fault]:
        assert server.requests[-1] == ("/a.zip", f"bytes={PASSING[fault]}-")


LASTING = {
    "page": (BadInputError, "sends a web page"),
    "tampered": (BadInputError, "its sha256 digest is .*, expected .*; nothing of it was kept"),
    "endless": (BadInputError, r"sends more than [\d,]+ bytes, expected about 100,000"),
    "gone": (BadInputError, "answers 404"),
    "redirect loop": (BadInputError, "answers 302"),
    "redirect to file": (BadInputError, "answers 302"),
    "busy": (BusyError, "answers 503"),
    "silence": (BusyError, "nothing was received for 0.3 s$"),
    "stall": (BusyError, r"nothing was received for 0.3 s; the [\d,]+ bytes that arrived are kept"),
    "ignores range and cuts": (BusyError, "ended 50,000 bytes early"),
    "drip": (BusyError, r"slower than 100\.0 kB a second; the [\d,]+ bytes that arrived are kept"),
    "nonsense": (BusyError, "connection failed"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_ends_with_one_line_and_no_file(tmp_path: Path, server: FileServer, fault: str) -> None:
    kind, expected = LASTING[fault]
    server.always["/a.zip"] = fault
    with pytest.raises(kind, match=expected) as caught:
        fetch(source_of(server), tmp_path / "a.zip")
    assert "\n" not in str(caught.value) and server.url("/a.zip") in str(caught.value)
    assert "a.zip" not in left(tmp_path)
    if kind is BadInputError:
        assert left(tmp_path) == set()
    del server.always["/a.zip"]
    assert fetch(source_of(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert left(tmp_path) == {"a.zip"}


def test_a_later_run_asks_for_the_rest(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.always["/a.zip"] = "cut"

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http.time, "sleep", stop)  # Ctrl-C while it waits to ask again
    for start in (None, "bytes=50000-", "bytes=75000-"):
        with pytest.raises(KeyboardInterrupt):
            fetch(source_of(server), tmp_path / "a.zip")
        assert server.requests[-1][1] == start
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:87500]


@pytest.mark.parametrize("length", [50_000, 100_000, 100_001])
def test_what_was_put_together_wrongly_is_fetched_again(tmp_path: Path, server: FileServer, length: int) -> None:
    """The server's file changed meanwhile, or the disk lost what had arrived."""
    (tmp_path / "a.zip.part").write_bytes(bytes(length))
    assert fetch(source_of(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert left(tmp_path) == {"a.zip"}


def test_what_nobody_can_verify_is_never_put_together(tmp_path: Path, server: FileServer) -> None:
    server.faults["/a.zip"] = ["cut"]
    (tmp_path / "a.zip.part").write_bytes(bytes(50_000))
    assert fetch(source_of(server, digest=""), tmp_path / "a.zip").read_bytes() == CONTENT
    assert {asked for _, asked in server.requests} == {None}


def test_a_transfer_that_ended_before_its_rename_needs_no_byte_more(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(source_of(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == [("/a.zip", "bytes=100000-")] and left(tmp_path) == {"a.zip"}


def test_a_file_that_is_there_and_right_is_not_asked_for(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(source_of(server), tmp_path / "a.zip")
    assert server.requests == []


def test_digests_are_those_of_the_usual_tools(tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert digest_of(tmp_path / "hello", "git") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert digest_of(tmp_path / "hello", "md5") == "b1946ac92492d2347c6235b4d2611184"  # md5sum


def test_a_disk_that_fills_up_keeps_what_arrived(tmp_path: Path, server: FileServer) -> None:
    def task() -> None:
        limit_file_size(30_000, kill=False)
        fetch(source_of(server), tmp_path / "a.zip")

    code, message = in_child(task)
    assert code == SaveError.exit_code and "cannot write" in message and "it goes on there" in message
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:30_000]
    assert fetch(source_of(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=30000-"


def test_a_folder_in_the_way_is_no_full_disk(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a\.zip\.part: Is a directory; choose another name"):
        fetch(source_of(server), tmp_path / "a.zip")


def test_a_server_that_is_not_there_is_said(tmp_path: Path, server: FileServer) -> None:
    for url in ("http://127.0.0.1:9/a.zip", "http://["):
        with pytest.raises(BusyError, match=r"connection failed"):
            fetch(Source(url=url, about=1), tmp_path / "a.zip")


def test_only_http_is_spoken() -> None:
    for url in ("file:///etc/passwd", "ftp://host/a"):
        with pytest.raises(ValueError, match="url"):
            Source(url=url, about=1)

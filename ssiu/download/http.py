"""Fetches one file over HTTP and hands it over only when it is the right one; an interrupted fetch goes on later.

What has arrived lies in ``{file}.part``, and beside it what the server said identifies its content. The next request
asks for the rest of exactly that content (``Range`` with ``If-Range``, RFC 9110); a server that answers with the whole
file, or with another one, makes the file start again. Nobody sees ``{file}`` before size and digest are right.
"""

import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tqdm import tqdm

from ssiu.errors import BadInputError, BusyError, SaveError, quoted
from ssiu.files import make_folder, write_atomically, write_error

log = logging.getLogger("ssiu")

CHUNK = 1 << 20
GAIN = 1 << 20  # bytes more than ever before: the server works, so its failures are counted anew
LONGEST_WAIT = 60.0  # seconds between two attempts
MAY_PASS = {408, 425, 429}  # HTTP statuses after which asking again can help, beside those from 500 on


class Model(BaseModel):
    """A part of the manifest; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Connection(Model):
    """How patient to be."""

    timeout: float = Field(gt=0, description="seconds without a byte until a connection counts as stalled")
    attempts: int = Field(gt=0, description="failures in a row, without any progress, until a source is given up")
    wait: float = Field(ge=0, description="seconds before the second attempt; twice as long before each further one")


class Source(Model):
    """Where a file is, and what is known of it."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    bytes: int | None = Field(None, gt=0, description="the exact size, where it is known")
    about: int | None = Field(None, gt=0, description="the size to expect where the exact one is not known")
    digest: Annotated[str, Field(pattern=r"^((sha256|md5|git):[0-9a-f]+)?$")] = ""

    @model_validator(mode="after")
    def _some_size(self) -> Self:
        if not (self.bytes or self.about):
            raise ValueError("expected the size of the file as 'bytes', or 'about' how large it is")
        return self

    @property
    def expected_bytes(self) -> int:
        """What to reserve on the disk."""
        return self.bytes or self.about

    @property
    def most_bytes(self) -> int:
        """More than this is not the file."""
        return self.bytes or 4 * self.about


class _InterruptedError(Exception):
    """The transfer ended early; what has arrived is kept and asking again can help."""


def fetch(source: Source, path: Path, connection: Connection) -> Path:
    """Returns ``path``, which holds what ``source`` promises: fetched, continued from an earlier run, or found there.

    Raises BadInputError (65) when the server gives something else (an error page, another size, another digest) and
    BusyError (75) when it cannot be reached, cuts or stalls more often than ``connection`` allows: then the part that
    arrived is kept. SaveError (74) when the disk is full, OutputError (73) where it may not write.
    """
    part = path.with_name(path.name + ".part")
    if path.is_file():
        if not mismatch(source, path):
            return path
        path.unlink()
    make_folder(path.parent)
    log.info("fetching %s (%.1f MB, %.1f of it here)", source.url, source.expected_bytes / 1e6, _size(part) / 1e6)
    most, failures, continued = _size(part), 0, part.exists()
    while True:
        try:
            _receive(source, part, connection.timeout)
        except _InterruptedError as error:
            arrived = _size(part)
            failures = 0 if arrived >= most + GAIN else failures + 1
            most = max(most, arrived)
            if failures >= connection.attempts:
                kept = f"; the {arrived:,} bytes that arrived are kept" if arrived else ""
                raise BusyError(f"{source.url}: {error}{kept}") from None
            log.info("%s; trying again", error)
            time.sleep(min(connection.wait * 2 ** max(failures - 1, 0), LONGEST_WAIT))
            continued = True
            continue
        problem = mismatch(source, part)
        if not problem:
            part.replace(path)
            _validator_file(part).unlink(missing_ok=True)
            return path
        _discard(part)
        if not continued:
            raise BadInputError(f"{source.url}: {problem}; nothing of it was kept")
        continued = False  # the older piece may have been the damaged one: once more, from the start


def mismatch(source: Source, path: Path) -> str:
    """In what ``path`` is not the file of ``source``; empty when it is, as far as anything is known of it."""
    if source.bytes not in (None, _size(path)):
        return f"{_size(path):,} bytes, expected {source.bytes:,}"
    kind, _, expected = source.digest.partition(":")
    found = digest_of(path, kind) if kind else ""
    return f"its {kind} digest is {found}, expected {expected}" if found != expected else ""


def digest_of(path: Path, kind: str) -> str:
    """The hex digest of a file; ``git`` is a blob id: SHA-1 over ``blob {size}``, a zero byte and the content."""
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % _size(path))
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raises SaveError (74) when the disk of ``folder`` has less than ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SaveError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder} and {free / 1e9:.2f} GB are free: "
            "free some space or choose another folder with --to"
        )


def _receive(source: Source, part: Path, timeout: float) -> None:
    """One request; ``part`` holds the whole body when this returns. Raises _InterruptedError, BadInputError."""
    have, validator = _size(part), _read_validator(part)
    if have and have == source.bytes:
        return
    headers = {"User-Agent": "ssiu", "Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with _network(timeout):
            response = urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            complete = error.headers.get("Content-Range") == f"bytes */{have}"
        if error.code == 416 and complete:  # there is no more than what arrived before
            return
        if error.code == 416:
            _discard(part)
        elif error.code < 500 and error.code not in MAY_PASS:
            raise BadInputError(f"{source.url}: the server answers {_status(error)}") from None
        raise _InterruptedError(f"the server answers {_status(error)}") from None
    with response, _disk(part):
        have, whole = _begin(source, part, response, have)
        limit = source.bytes or whole or source.most_bytes
        progress = tqdm(
            desc=urlsplit(source.url).netloc, total=whole or source.expected_bytes, initial=have, unit="B",
            unit_scale=True, disable=None, leave=False,
        )  # fmt: skip
        with progress, part.open("ab") as file:
            while have <= limit and (chunk := _read(response, timeout)):
                have += len(chunk)
                file.write(chunk)
                file.flush()
                progress.update(len(chunk))
            os.fsync(file.fileno())
    if have > limit:
        _discard(part)
        raise BadInputError(f"{source.url}: the server sends more than {limit:,} bytes; nothing of it was kept")
    missing = (whole or source.bytes or 0) - have
    if missing > 0:
        raise _InterruptedError(f"the connection ended {missing:,} bytes early")


def _read(response: http.client.HTTPResponse, timeout: float) -> bytes:
    with _network(timeout):
        return response.read1(CHUNK)


@contextmanager
def _network(timeout: float) -> Iterator[None]:
    """Turns what a connection can fail of into _InterruptedError; an answer with an error status passes."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: nonsense instead of a chunk's size
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise _InterruptedError(f"nothing came for {timeout:g} s") from None
        text = ascii(str(reason) or type(reason).__name__)[1:-1]  # whatever the server sent stays one line
        raise _InterruptedError(f"the connection failed ({text:.100})") from None


@contextmanager
def _disk(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(part, error, "free some space and run the same command again, it goes on there") from None


def _begin(source: Source, part: Path, response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Judges the answer's header and makes ``part`` ready to be appended to.

    Returns how much of the file is there already, and its size where the server says it.
    """
    if source.url.startswith("https:") and not response.url.startswith("https:"):
        raise BadInputError(f"{source.url}: leads to {response.url}, which is not encrypted")
    if response.headers.get_content_type() == "text/html":
        raise BadInputError(f"{source.url}: the server sends a web page (an error or a login) instead of the file")
    length = response.headers.get("Content-Length", "")
    whole = int(length) if length.isdigit() else None
    if response.status == 206:
        answer = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if answer is None or int(answer[1]) != have:
            _discard(part)
            raise _InterruptedError("the server sends another piece than the one asked for")
        whole = int(answer[2])
    elif response.status != 200:
        raise BadInputError(f"{source.url}: the server answers {response.status}")
    if source.bytes is not None and whole not in (None, source.bytes):
        raise BadInputError(f"{source.url}: the server's file has {whole:,} bytes, expected {source.bytes:,}")
    if (whole or 0) > source.most_bytes:
        raise BadInputError(f"{source.url}: the server's file has {whole:,} bytes, expected about {source.about:,}")
    if response.status == 200:
        _discard(part)
        validator = response.headers.get("ETag") or ""
        if validator.startswith("W/") or not validator:  # a weak one does not promise the same bytes
            validator = response.headers.get("Last-Modified", "")
        write_atomically(_validator_file(part), validator.encode("latin-1", "replace"))
        have = 0
    return have, whole


def _status(error: urllib.error.HTTPError) -> str:
    reason = error.reason if isinstance(error.reason, str) else ""
    return f"{error.code} {quoted(reason.partition(chr(10))[0], 60)}".strip()


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _read_validator(part: Path) -> str:
    file = _validator_file(part)
    return file.read_text("latin-1") if file.is_file() else ""


def _discard(part: Path) -> None:
    """The part first: without it, whatever the validator says is of no effect."""
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

"""Fetches one file over HTTP and hands it over only when it is the right one; an interrupted fetch goes on later.

What has arrived lies in ``{file}.part``. Where the digest of the file is known, the next request asks for the rest
alone: what was put together wrongly does not have that digest, whatever the server said. Nobody sees ``{file}`` before
its digest is right.
"""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ssiu.data.catalog import Source
from ssiu.errors import BadInputError, BusyError, quoted
from ssiu.files import make_folder, size_text, write_error
from ssiu.progress import Progress

log = logging.getLogger("ssiu")

CHUNK = 1 << 20
MOST = 4  # times the expected size is more than the file can have
TIMEOUT = 30.0  # seconds without a byte until a connection counts as cut
ATTEMPTS = 3  # failures in a row, without a byte more, until a source is given up
WAIT = 2.0  # seconds before the second attempt; twice as long before each further one
PATIENCE = 600.0  # seconds for a file in all, beside those that its bytes take at the slowest rate
SLOWEST = 100_000  # bytes a second
MAY_PASS = {408, 425, 429}  # HTTP statuses after which asking again can help, beside those from 500 on


class _InterruptedError(Exception):
    """The transfer ended early; what has arrived is kept and asking again can help."""


def fetch(source: Source, path: Path) -> Path:
    """Returns ``path``, which holds what ``source`` promises: fetched, continued from an earlier run, or found there.

    Raises BadInputError (65) when the server gives something else and BusyError (75) when it cannot be reached, fails
    `ATTEMPTS` times in a row or is too slow: then the part that arrived is kept. SaveError (74) when the disk is full,
    OutputError (73) where it may not write.
    """
    part = path.with_name(path.name + ".part")
    if path.is_file():
        if not mismatch(source, path):
            return path
        path.unlink()
    make_folder(path.parent)
    log.info("fetching %s (%s, %s of it here)", source.url, size_text(source.about), size_text(_size(part)))
    end = time.monotonic() + PATIENCE + source.about / SLOWEST
    failures, continued = 0, part.exists()
    while True:
        before = _size(part)
        try:
            _receive(source, part, end)
        except _InterruptedError as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= ATTEMPTS or time.monotonic() > end:
                kept = f"; the {_size(part):,} bytes that arrived are kept" if source.digest and _size(part) else ""
                raise BusyError(f"{source.url}: {error}{kept}") from None
            log.info("%s; trying again", error)
            time.sleep(WAIT * 2 ** max(failures - 1, 0))
            continued = True
            continue
        problem = mismatch(source, part)
        if not problem:
            part.replace(path)
            return path
        part.unlink()
        if not continued:
            raise BadInputError(f"{source.url}: {problem}; nothing of it was kept")
        continued = False  # the older piece may have been the wrong one: once more, from the start


def mismatch(source: Source, path: Path) -> str:
    """In what ``path`` is not the file of ``source``; empty when it is, as far as a digest is known."""
    kind, _, expected = source.digest.partition(":")
    found = digest_of(path, kind) if kind else ""
    return f"its {kind} digest is {found}, expected {expected}" if found != expected else ""


def digest_of(path: Path, kind: str) -> str:
    """The hex digest of a file; ``git`` is a blob id: SHA-1 over ``blob {size}``, a zero byte and the content."""
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % _size(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def _receive(source: Source, part: Path, end: float) -> None:
    """One request; ``part`` holds the whole body when this returns. Raises _InterruptedError, BadInputError."""
    have = _size(part) if source.digest else 0
    headers = {"User-Agent": "ssiu", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _network(source.url):
        try:
            response = urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            return error.close()  # there is no more than what arrived before
    with response:
        if response.headers.get_content_type() == "text/html":
            raise BadInputError(f"{source.url}: the server sends a web page (an error or a login) instead of the file")
        have = have if response.status == 206 else 0
        progress = Progress(
            desc=urlsplit(source.url).netloc, total=source.about, initial=have, unit="B", unit_scale=True, leave=False
        )
        try:
            with progress, part.open("ab" if have else "wb") as file:
                for chunk in _body(response, source.url):
                    have += file.write(chunk)
                    progress.update(len(chunk))
                    if have > MOST * source.about or time.monotonic() > end:
                        break
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(part, error, "free some space and run the same command again, it goes on there") from None
    if have > MOST * source.about:
        part.unlink()
        raise BadInputError(
            f"{source.url}: the server sends more than {have - 1:,} bytes, expected about {source.about:,}; nothing of "
            "it was kept"
        )
    if time.monotonic() > end:
        raise _InterruptedError(f"it is slower than {size_text(SLOWEST)} a second")
    if response.length:
        raise _InterruptedError(f"the connection ended {response.length:,} bytes early")


def _body(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    with _network(url):
        while chunk := response.read1(CHUNK):
            yield chunk


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Whatever a connection can fail of is an _InterruptedError, or a BadInputError (65) where it would stay so."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        said = f"the server answers {error.code}"
        if error.code < 500 and error.code not in MAY_PASS:
            raise BadInputError(f"{url}: {said}") from None
        raise _InterruptedError(said) from None
    except Exception as error:  # sockets, TLS and HTTP have more kinds than anybody thought of
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise _InterruptedError(f"nothing was received for {TIMEOUT:g} s") from None
        raise _InterruptedError(f"the connection failed ({quoted(reason, 100) or type(reason).__name__})") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

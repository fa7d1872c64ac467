"""A file server on the loopback address that can be told to do what servers do wrong."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssiu.download import http

PAGE = b"<!doctype html><title>Sorry</title>Quota exceeded"
HALF = 2  # a fault that ends early sends this part of what is asked for


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads wait 0.3 s for a byte and 2 s for a file, and ask again at once."""
    for name, value in {"TIMEOUT": 0.3, "WAIT": 0.0, "PATIENCE": 2.0}.items():
        monkeypatch.setattr(http, name, value)


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` (path to content); ``faults[path]`` are done in turn, one a request, then all is well.

    ``always[path]`` is done every time. ``requests`` are the (path, Range header) that came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address) -> None:
        pass  # a client that was killed


@contextmanager
def serving() -> Iterator[FileServer]:
    """A running server."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, asked))
        queue = server.faults.get(self.path)
        fault = queue.pop(0) if queue else server.always.get(self.path, "")
        content = server.files.get(self.path)
        if content is None and not fault:
            return self.send_error(404)
        getattr(self, "_" + (fault or "good").replace(" ", "_"))(content or b"", asked)

    def _answer(self, content: bytes, status: int = 200, sent: int | None = None, **headers: str) -> None:
        """``sent`` of the bytes of ``content`` under the given headers; a header that is empty is left out."""
        fields = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(status)
        for name, value in fields.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()

    def _piece(self, content: bytes, asked: str | None) -> tuple[bytes, int]:
        """What to send, and the status: the rest where it is asked for."""
        if not asked:
            return content, 200
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        return (content[start:], 206) if start < len(content) else (b"", 416)

    def _good(self, content: bytes, asked: str | None) -> None:
        self._answer(*self._piece(content, asked))

    def _cut(self, content: bytes, asked: str | None) -> None:
        piece, status = self._piece(content, asked)
        self._answer(piece, status, len(piece) // HALF)

    def _drip(self, content: bytes, asked: str | None) -> None:
        piece, status = self._piece(content, asked)
        self._answer(piece, status, 1)
        for position in range(1, len(piece)):
            if self.server.closing.wait(0.1):
                break
            self.wfile.write(piece[position : position + 1])

    def _stall(self, content: bytes, asked: str | None) -> None:
        self._cut(content, asked)
        self.server.closing.wait(20)

    def _silence(self, content: bytes, asked: str | None) -> None:
        self.server.closing.wait(20)

    def _ignores_range(self, content: bytes, asked: str | None) -> None:
        self._answer(content)

    def _ignores_range_and_cuts(self, content: bytes, asked: str | None) -> None:
        self._answer(content, sent=len(content) // HALF)

    def _page(self, content: bytes, asked: str | None) -> None:
        self._answer(PAGE, Content_Type="text/html; charset=utf-8")

    def _page_as_file(self, content: bytes, asked: str | None) -> None:
        self._answer(PAGE)

    def _tampered(self, content: bytes, asked: str | None) -> None:
        middle = len(content) // 2
        self._answer(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])

    def _endless(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="")
        while not self.server.closing.is_set():
            self.wfile.write(content)

    def _no_length(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="")

    def _superscript_length(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="\N{SUPERSCRIPT TWO}")

    def _length_of_5000_digits(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="9" * 5000)

    def _nonsense(self, content: bytes, asked: str | None) -> None:
        self.wfile.write(b"\0\1\2 not HTTP\r\n\r\n")

    def _redirect(self, content: bytes, asked: str | None) -> None:
        self._answer(b"", 302, Location="/moved" + self.path)

    def _redirect_loop(self, content: bytes, asked: str | None) -> None:
        self._answer(b"", 302, Location=self.path)

    def _redirect_to_file(self, content: bytes, asked: str | None) -> None:
        self._answer(b"", 302, Location="file:///etc/passwd")

    def _gone(self, content: bytes, asked: str | None) -> None:
        self.send_error(404)

    def _busy(self, content: bytes, asked: str | None) -> None:
        self.send_error(503)

"""A file server on the loopback address that can be told to do what servers do wrong."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!doctype html><title>Sorry</title>Quota exceeded"
HALF = 2  # a fault that ends early sends this part of what is asked for


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
        fields |= {"ETag": f'"{sha256(content).hexdigest()[:8]}"', "Last-Modified": formatdate(0, usegmt=True)}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(status)
        for name, value in fields.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()

    def _piece(self, content: bytes, asked: str | None) -> tuple[bytes, int, dict[str, str]]:
        """What to send, the status, and its headers: the rest where it is asked for and is of this content."""
        tag = f'"{sha256(content).hexdigest()[:8]}"'
        if not asked or self.headers.get("If-Range") != tag:
            return content, 200, {"ETag": tag}
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return b"", 416, {"Content_Range": f"bytes */{len(content)}", "ETag": tag}
        return content[start:], 206, {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "ETag": tag}

    def _good(self, content: bytes, asked: str | None) -> None:
        piece, status, headers = self._piece(content, asked)
        self._answer(piece, status, **headers)

    def _cut(self, content: bytes, asked: str | None) -> None:
        piece, status, headers = self._piece(content, asked)
        self._answer(piece, status, len(piece) // HALF, **headers)

    def _stall(self, content: bytes, asked: str | None) -> None:
        self._cut(content, asked)
        self.server.closing.wait(20)

    def _silence(self, content: bytes, asked: str | None) -> None:
        self.server.closing.wait(20)

    def _length_too_large(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length=str(len(content) + 1000))

    def _length_too_small(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length=str(len(content) - 1000))

    def _ignores_range(self, content: bytes, asked: str | None) -> None:
        self._answer(content)

    def _ignores_range_and_cuts(self, content: bytes, asked: str | None) -> None:
        self._answer(content, sent=len(content) // HALF)

    def _weak_tag(self, content: bytes, asked: str | None) -> None:
        self._answer(content, sent=len(content) // HALF, ETag='W/"1"', Last_Modified="")

    def _other_piece(self, content: bytes, asked: str | None) -> None:
        self._answer(content[7:], 206, Content_Range=f"bytes 7-{len(content) - 1}/{len(content)}")

    def _page(self, content: bytes, asked: str | None) -> None:
        self._answer(PAGE, Content_Type="text/html; charset=utf-8")

    def _page_as_file(self, content: bytes, asked: str | None) -> None:
        self._answer(PAGE)

    def _tampered(self, content: bytes, asked: str | None) -> None:
        middle = len(content) // 2
        self._answer(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])

    def _truncated(self, content: bytes, asked: str | None) -> None:
        self._answer(content[: len(content) // 2])

    def _endless(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="")
        while not self.server.closing.is_set():
            self.wfile.write(content)

    def _no_length(self, content: bytes, asked: str | None) -> None:
        self._answer(content, Content_Length="", ETag="", Last_Modified="")

    def _chunks_cut(self, content: bytes, asked: str | None) -> None:
        self._answer(b"", Content_Length="", Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%s\r\n%x\r\nabc" % (len(content) // 2, content[: len(content) // 2], 500))

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

"""What stands for the Hugging Face Hub: the part of its HTTP interface that fetching and uploading weights needs."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

Files = dict[str, bytes]


def commit_of(files: Files) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Hub:
    """``repos[name]`` are a repository's commits, the files of each; the last is ``main``.

    ``refused[name]`` is what the hub says of a repository instead, such as GatedRepo. ``requests`` are those that came.
    """

    def __init__(self) -> None:
        self.repos: dict[str, list[Files]] = {}
        self.refused: dict[str, str] = {}
        self.requests: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.plug()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def plug(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", self._port), _Handler)
        server.hub, server.daemon_threads = self, True
        self._server, self._port = server, server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def unplug(self) -> None:
        """From now on connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    @contextmanager
    def without_network(self) -> Iterator[None]:
        self.unplug()
        try:
            yield
        finally:
            self.plug()

    def push(self, name: str, **files: bytes) -> str:
        """Adds a commit, in whose names ``__`` is a dot; returns its hash."""
        commits = self.repos.setdefault(name, [])
        commits.append({path.replace("__", "."): content for path, content in files.items()})
        return commit_of(commits[-1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def _answer(self, content: bytes = b"", status: int = 200, **headers: str) -> None:
        self.close_connection = True  # else it would outlive `unplug`
        self.send_response(status)
        headers = {"Connection": "close", "Content-Length": str(len(content)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, document: object) -> None:
        self._answer(json.dumps(document).encode(), Content_Type="application/json")

    def _refuse(self, code: str, status: int = 404) -> None:
        self._answer(b'{"error": "no"}', status, X_Error_Code=code, X_Error_Message="no")

    def _commit(self, name: str, revision: str) -> tuple[str, Files] | None:
        """The commit asked for; None where a refusal was sent."""
        hub: Hub = self.server.hub
        if name in hub.refused:
            return self._refuse(hub.refused[name], 403)
        if name not in hub.repos:
            return self._refuse("RepoNotFound", 401)
        commits = hub.repos[name]
        for files in reversed(commits):
            if revision in (commit_of(files), "main"):
                return commit_of(files), files
        return self._refuse("RevisionNotFound")

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or "main"
            found = self._commit(name, revision)
            if found:
                self._json({"id": name, "sha": found[0], "siblings": [{"rfilename": file} for file in found[1]]})
            return
        if parts[2:3] != ["resolve"]:
            return self._answer(status=404)
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        found = self._commit(name, revision)
        if found and file not in found[1]:
            return self._refuse("EntryNotFound")
        if found:
            etag = hashlib.sha256(found[1][file]).hexdigest()
            self._answer(found[1][file], ETag=f'"{etag}"', X_Repo_Commit=found[0])

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        self.server.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        repos, parts = self.server.hub.repos, path.strip("/").split("/")
        if self.headers.get("Authorization") != "Bearer secret":
            return self._refuse("", 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in repos:
                return self._answer(json.dumps({"url": f"{self.server.hub.url}/{name}"}).encode(), 409)
            repos[name] = [{}]
            return self._json({"url": f"{self.server.hub.url}/{name}"})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._json({"files": files})
        files = dict(repos[name][-1])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        repos[name].append(files)
        oid = commit_of(files)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.server.hub.url}/{name}/commit/{oid}"})

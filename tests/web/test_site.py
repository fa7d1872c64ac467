"""The folder of `ssiu export web`: what is in it; the second time, two at once, no network, no room."""

import io
import json
import re
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from file_server import FileServer
from file_server import serving as serving_files
from tiny import tiny
from web_site import serving

from ssiu import progress
from ssiu.cli.export import main
from ssiu.data.catalog import Source
from ssiu.errors import BadInputError, BusyError, OutputError
from ssiu.export.onnx import OnnxNetwork
from ssiu.files import held
from ssiu.inference.tiles import MARGIN
from ssiu.report.pages import render
from ssiu.web import site as web_page
from ssiu.web.site import RUNTIME_FILES, export_web, page_server
from ssiu.weights.checkpoint import tensors_digest

NETWORK = tiny(2).eval()
ROOT = Path(__file__).parents[2]


def package(damaged: bool = False) -> bytes:
    """What stands for the npm package of ONNX Runtime."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in [*RUNTIME_FILES, "ort.node.min.js"][damaged:]:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with serving_files() as server:
        content = package()
        server.files["/runtime.tgz"] = content
        digest = f"sha256:{sha256(content).hexdigest()}"
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        source = Source(url=server.url("/runtime.tgz"), about=len(content), digest=digest)
        monkeypatch.setattr(web_page, "RUNTIME", source)
        yield server


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_folder_holds_the_page_the_runtime_and_the_network(tmp_path: Path) -> None:
    written = export_web(tmp_path / "site", {"tiny": NETWORK})
    files = snapshot(tmp_path / "site")
    assert sorted(files) == sorted(path.relative_to(tmp_path / "site").as_posix() for path in written)
    for there, here in RUNTIME_FILES.items():
        assert files[f"runtime/{here}"] == there.encode()
    settings = json.loads(files["models.json"])
    assert (settings["margin"], settings["models"]["2"]["multiple"]) == (MARGIN, NETWORK.size_multiple)
    assert settings["models"]["2"]["weights"] == f"tiny, sha256 {tensors_digest(NETWORK.state_dict())[:12]}"
    assert OnnxNetwork(tmp_path / "site/SSIU_x2.onnx").scale == 2
    for name in ("index.html", "page.js", "worker.js", "slider.js", "slider.css", "base.css", "sw.js"):
        assert files[name], name
    assert not [name for name in ("index.html", "sw.js") if re.search(rb"{{|{%", files[name])]
    assert b"Drag the line" in files["index.html"]


def test_a_log_says_how_many_networks_are_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)  # else what is done in half a minute says nothing
    export_web(tmp_path / "site", {"tiny": NETWORK})
    assert "exporting: 100%, 1 of 1 networks, after" in capsys.readouterr().err


def test_every_file_that_the_page_names_is_there(tmp_path: Path) -> None:
    export_web(tmp_path / "site", {"tiny": NETWORK})
    files = snapshot(tmp_path / "site")
    named = {f"runtime/{name}" for name in RUNTIME_FILES.values()}
    for name, content in files.items():
        if name.endswith((".js", ".html")) and "/" not in name:
            named |= set(
                re.findall(r'(?:from "\./|src="|href="|Worker\("|register\(")([\w.]+\.\w+)"', content.decode())
            )
    assert {"page.js", "worker.js", "sw.js", "png.js", "base.css"} <= named <= files.keys()
    kept = json.loads(re.search(r"PAGE = (\[.*\]);", files["sw.js"].decode())[1])
    assert set(kept[1:]) == {name for name in files if "/" not in name} - {"index.html", "sw.js", "SSIU_x2.onnx"}


def test_a_second_export_replaces_its_own_files_and_no_others(tmp_path: Path, server: FileServer) -> None:
    export_web(tmp_path / "site", {"tiny": NETWORK})
    before = snapshot(tmp_path / "site")
    (tmp_path / "site/CNAME").write_text("example.org")
    (tmp_path / "site/page.js").write_text("old")
    (tmp_path / "site/.ssiu-0123.part").write_text("of a killed one")
    server.requests.clear()
    export_web(tmp_path / "site", {"tiny": NETWORK})
    assert snapshot(tmp_path / "site") == {**before, "CNAME": b"example.org"}
    assert server.requests == [], "the runtime is kept"


@pytest.mark.parametrize("settings", [None, b'{"models": []}', b'["version", "margin", "models"]', b"\xff", b""])
def test_a_folder_with_other_files_is_refused_before_anything_is_done(tmp_path: Path, settings: bytes | None) -> None:
    (tmp_path / "index.html").write_text("my own page")
    if settings is not None:
        (tmp_path / "models.json").write_bytes(settings)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="holds other files"):
        export_web(tmp_path, {"tiny": NETWORK})
    assert snapshot(tmp_path) == before


def test_what_a_system_or_a_killed_export_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in (".DS_Store", ".ssiu-0123.part"):
        (tmp_path / name).write_text("hidden")
    written = export_web(tmp_path, {"tiny": NETWORK})
    assert snapshot(tmp_path).keys() == {path.relative_to(tmp_path).as_posix() for path in written} | {".DS_Store"}


def test_the_service_workers_version_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_web(tmp_path / "one", {"tiny": NETWORK})
    export_web(tmp_path / "same", {"tiny": NETWORK})
    monkeypatch.setattr(web_page, "MARGIN", 64)
    export_web(tmp_path / "other", {"tiny": NETWORK})
    one, same, other = (snapshot(tmp_path / name)["sw.js"] for name in ("one", "same", "other"))
    assert one == same != other


def test_without_a_network_it_is_one_line_and_the_folder_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    monkeypatch.setattr(web_page, "RUNTIME", Source(url="http://127.0.0.1:9/runtime.tgz", about=100))
    with pytest.raises(BusyError, match=r"connection failed .* needed once and then kept in") as raised:
        export_web(tmp_path / "site", {"tiny": NETWORK})
    assert "\n" not in str(raised.value) and snapshot(tmp_path / "site") == {}


@pytest.mark.parametrize(("fault", "line"), [("tampered", "sha256 digest"), ("page", "web page"), ("gone", "404")])
def test_another_runtime_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer, fault: str, line: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "fresh"))
    server.always["/runtime.tgz"] = fault
    with pytest.raises(BadInputError, match=line):
        export_web(tmp_path / "site", {"tiny": NETWORK})
    assert snapshot(tmp_path / "site") == {}


def test_two_at_once_are_one_after_the_other(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with ThreadPoolExecutor() as pool, held(cache / "ssiu/web/lock", cache, "", ""):
        second = pool.submit(export_web, tmp_path / "site", {"tiny": NETWORK})
        for _ in range(1000):
            if "waiting for another `ssiu export web`" in caplog.text:
                break
            time.sleep(0.01)
        assert "waiting for another `ssiu export web`" in caplog.text and not second.done() and not snapshot(tmp_path)
    assert second.result() and snapshot(tmp_path / "site")


def test_the_server_sends_what_threads_need_and_only_the_folder(tmp_path: Path) -> None:
    export_web(tmp_path / "site", {"tiny": NETWORK})
    (tmp_path / "secret").write_text("not for them")
    server = page_server(tmp_path / "site", 0)
    assert server.server_address[0] == "127.0.0.1"
    with serving(server) as url:
        with urlopen(f"{url}runtime/ort.wasm.js") as answer:
            assert answer.headers["Content-Type"] == "text/javascript"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        for path in ("../secret", "%2e%2e/secret"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(url + path)
        with pytest.raises(BusyError, match="--port"):
            page_server(tmp_path / "site", server.server_port)


def test_the_server_goes_on_without_a_word_when_a_browser_leaves_or_asks_for_what_no_file_is_called(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200_000_000)  # more than the system takes in before anybody reads
    (tmp_path / "index.html").write_text("the page")
    server = page_server(tmp_path, 0)
    with serving(server) as url:
        for _ in range(3):
            with socket.create_connection(server.server_address) as browser:
                browser.sendall(b"GET /large HTTP/1.0\r\n\r\n")
                browser.recv(1000)
        for path in ("%00", "%ed%a0%80"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(url + path)
        assert urlopen(url).read() == b"the page"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["web"], "name the folder to make, or --serve"),
        (["web", "--serve", "--port", "70000"], "argument --port: expected a port, 0 to 65535, got '70000'"),
        (["web", "--serve", "--port", "x"], "argument --port: expected a port, 0 to 65535, got 'x'"),
        (["web", "", "--serve"], "argument DIR: expected a name, got ''"),
    ],
)
def test_what_the_command_line_refuses(arguments: list[str], line: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("usage: ssiu export web") and line in said


def test_the_page_is_no_foreigners_business() -> None:
    """No address of anybody else stands in it, and the policy would forbid it."""
    web = ROOT / "ssiu/web"
    served = [path for path in web.iterdir() if path.suffix in (".css", ".html", ".js")]
    assert served and not [path.name for path in served if "://" in path.read_text()]
    policy = render("web/index.html").decode()
    assert "default-src 'none'" in policy and "'wasm-unsafe-eval'" in policy and "unsafe-inline" not in policy


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of Unix")
def test_where_there_is_no_room_it_is_a_line(tmp_path: Path, cache: Path) -> None:
    export_web(tmp_path / "site", {"tiny": NETWORK})
    before = snapshot(tmp_path / "site")
    code = f"""
import resource, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests/helpers")!r}]
from tiny import tiny
from ssiu.cli.console import run_cli
from ssiu.web import site as web_page
web_page._runtime = lambda cache: {{"runtime/ort.wasm.js": bytes(10)}}
networks = {{"tiny": tiny(2).eval()}}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
run_cli(lambda argv: web_page.export_web(web_page.Path({str(tmp_path / "site")!r}), networks) and None, [])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 74 and done.stderr.count("\n") == 1, done.stderr
    assert "cannot write" in done.stderr and snapshot(tmp_path / "site").keys() == before.keys()

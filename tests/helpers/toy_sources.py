"""A small benchmark archive on a local server, and the manifest that points there."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import yaml
from file_server import FileServer
from toy_sets import write_set

from ssiu.download.http import digest_of

NAMES = ["a", "b", "c"]


def tar_of(folder: Path, prefix: str, mode: str = "w:gz") -> bytes:
    """What is in ``folder``, in an archive below ``prefix``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.add(folder, prefix)
    return buffer.getvalue()


def toy_benchmark(folder: Path) -> bytes:
    """An archive in which ``benchmark/Toy`` and ``benchmark/Toy2`` have three images each, HR and x2."""
    for seed, name in enumerate(("Toy", "Toy2")):
        write_set(folder / "benchmark" / name, NAMES, seed=seed)
    return tar_of(folder, "baseline-c9e9")


def manifest_of(
    server: FileServer, *paths: str, sets: tuple[str, ...] = ("Toy", "Toy2"), digests: bool = False, images: int = 3
) -> dict[str, Any]:
    """The manifest whose archive ``benchmark`` has these paths of ``server`` for sources, with their digests or not."""
    sources: list[dict[str, Any]] = []
    for path in paths:
        source: dict[str, Any] = {"url": server.url(path), "about": 1_000_000}
        if digests:
            source["digest"] = "sha256:" + hashlib.sha256(server.files[path]).hexdigest()
        sources.append(source)
    benchmark = {
        "unpacked": 1_000_000,
        "sources": sources,
        "sets": {
            name: {
                "hr": f"benchmark/{name}/HR",
                "images": images,
                "members": rf"(?:.*/)?benchmark/{name}/HR/([^/]+\.png)",
                "licence": "none",
            }
            for name in sets
        },
    }
    return {
        "connection": {"timeout": 0.3, "attempts": 2, "wait": 0},
        "archives": {"benchmark": benchmark},
        "weights": {"licence": "MIT", "files": {}},
        "by_application": {
            "Manga109": {"page": "https://example.org", "hr": "benchmark/Manga109/HR", "images": 109, "licence": "ask"}
        },
    }


def add_weights(manifest: dict[str, Any], server: FileServer, scale: int, file: Path) -> None:
    """Serves ``file`` as the authors' weights of a scale."""
    name = f"model_x{scale}_290.pt"
    server.files[f"/{name}"] = file.read_bytes()
    source = {"url": server.url(f"/{name}"), "about": 10_000_000, "digest": f"git:{digest_of(file, 'git')}"}
    manifest["weights"]["files"][scale] = {"name": name, "source": source}


def write_manifest(path: Path, manifest: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(manifest))
    return path

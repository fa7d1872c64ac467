"""A small benchmark archive on a local server, and the catalogue that points there."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import yaml
from file_server import FileServer
from toy_sets import write_set

from ssiu.download.http import digest_of
from ssiu.weights.formats import released_name

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


def toy_set(get: str, hr: str, images: int) -> dict[str, Any]:
    """A set whose images lie in the archive as in data_path."""
    return {"use": "test", "images": images, "get": get, "hr": hr, "members": f"{hr}/*.png", "licence": "none"}


def catalog_of(
    server: FileServer, *paths: str, sets: tuple[str, ...] = ("Toy", "Toy2"), digests: bool = False, images: int = 3
) -> dict[str, Any]:
    """The catalogue whose archive has these paths of ``server`` for sources, with their digests or not."""
    sources: list[dict[str, Any]] = []
    for path in paths:
        source: dict[str, Any] = {"url": server.url(path), "about": 1_000_000}
        if digests:
            source["digest"] = "sha256:" + hashlib.sha256(server.files[path]).hexdigest()
        sources.append(source)
    return {
        "sets": {name: toy_set("benchmark", f"benchmark/{name}/HR", images) for name in sets},
        "archives": {"all": {"sets": list(sets), "unpacked": 1_000_000, "sources": sources}},
        "weights": {"licence": "MIT", "files": {}},
    }


def add_weights(catalog: dict[str, Any], server: FileServer, scale: int, file: Path) -> None:
    """Serves ``file`` as the authors' weights of a scale."""
    path = f"/{released_name(scale)}"
    server.files[path] = file.read_bytes()
    source = {"url": server.url(path), "about": 10_000_000, "digest": f"git:{digest_of(file, 'git')}"}
    catalog["weights"]["files"][scale] = source


def write_catalog(path: Path, catalog: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(catalog))
    return path

"""From a catalogue to sets and weights in place, whatever the servers do and whenever the process dies."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import in_child
from file_server import FileServer, impatient, serving
from tiny import tiny
from toy_sets import shorten_df2k, write_set
from toy_sources import NAMES, add_weights, catalog_of, tar_of, toy_benchmark, toy_set, write_catalog

from ssiu.cli import download as command
from ssiu.data import prepare
from ssiu.data.catalog import SETS, Catalog, read_catalog
from ssiu.data.check import check_set
from ssiu.data.pairs import find_pairs
from ssiu.download import http, sources, unpack
from ssiu.download.sources import WORK, obtain, obtain_weights
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError
from ssiu.images.io import read_rgb, save_image
from ssiu.weights.formats import save_authors_weights


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    impatient(monkeypatch)
    with serving() as server:
        server.files["/x.tar.gz"] = server.files["/mirror/x.tar.gz"] = toy_benchmark(tmp_path / "made")
        yield server


def files_of(folder: Path) -> dict[str, str]:
    """Every file by its path, but locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in paths}


def catalog(server: FileServer, *paths: str, **options: Any) -> Catalog:
    return Catalog.model_validate(catalog_of(server, *(paths or ("/x.tar.gz",)), **options))


def test_sets_are_put_in_place_with_lr_of_every_scale_and_the_second_time_nothing_is_done(
    tmp_path: Path, server: FileServer
) -> None:
    data = tmp_path / "data"
    assert obtain(catalog(server), "benchmark", data, [2, 4]) == ["Toy", "Toy2"]
    for name in ("Toy", "Toy2"):
        for scale in (2, 4):
            assert [pair.name for pair in find_pairs(data, name, scale)] == NAMES
        assert not [problem for report in check_set(data, name) for problem in report.problems]
    original = tmp_path / "made/benchmark/Toy/HR/a.png"
    assert (data / "benchmark/Toy/HR/a.png").read_bytes() == original.read_bytes()
    assert not any(name.startswith(WORK) for name in files_of(data))
    before = {path: path.stat().st_mtime_ns for path in (data / "benchmark").rglob("*")}
    server.requests.clear()
    obtain(catalog(server), "benchmark", data, [2, 4])
    assert server.requests == []
    assert {path: path.stat().st_mtime_ns for path in (data / "benchmark").rglob("*")} == before


def test_what_is_there_is_never_written_to(tmp_path: Path, server: FileServer) -> None:
    data = tmp_path / "data"
    write_set(data / "Toy2", ["mine"])
    lr = data / "benchmark/Toy/LR_bicubic/X2"
    write_set(lr.parents[1], NAMES)
    later = (lr / "ax2.png").stat().st_mtime + 9
    os.utime(data / "benchmark/Toy/HR/a.png", (later, later))
    save_image(lr / "bx2.png", np.zeros((9, 9, 3), np.uint8))
    (lr / "cx2.png").rename(lr / "c.png")  # a name that is read as well
    lr.rename(lr.with_name("x2"))  # and a folder
    before = files_of(data)
    obtain(catalog(server), "benchmark", data, [2, 4])
    after = files_of(data)
    assert {name: after.get(name) for name in before} == before and not (data / "benchmark/Toy2").exists()
    made = {name for name in after.keys() - before.keys() if "/Toy/" in name}
    assert made == {f"benchmark/Toy/LR_bicubic/X4/{name}x4.png" for name in NAMES}


def test_the_usual_copy_comes_beside_a_mod12_copy(tmp_path: Path, server: FileServer) -> None:
    root = tmp_path / "data/benchmark/Toy"
    write_set(root, ["a"], size=(48, 60))
    (root / "HR").rename(root / "GTmod12")
    (root / "LR_bicubic/X2").rename(root / "LRbicx2")
    obtain(catalog(server), "benchmark", tmp_path / "data", [2])
    assert len(find_pairs(tmp_path / "data", "Toy", 2)) == 3
    assert len(find_pairs(tmp_path / "data", "Toy mod12", 2)) == 1


FAULTS = ["gone", "page", "page as file", "tampered", "stall", "busy", "nonsense", "endless"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "without"])
def test_the_next_mirror_is_taken_and_without_one_nothing_is_half_made(
    tmp_path: Path, server: FileServer, fault: str, digests: bool
) -> None:
    data = tmp_path / "data"
    server.always |= {"/x.tar.gz": fault, "/mirror/x.tar.gz": fault}
    known = catalog(server, "/x.tar.gz", "/mirror/x.tar.gz", digests=digests)
    with pytest.raises((BadInputError, BusyError)) as caught:
        obtain(known, "benchmark", data, [2])
    message = str(caught.value)
    assert "\n" not in message and message.count("http://127.0.0.1") == 2
    assert all(name.endswith(".part") for name in files_of(data))
    del server.always["/mirror/x.tar.gz"]
    obtain(known, "benchmark", data, [])
    assert (data / "benchmark/Toy/HR/c.png").exists() and len(files_of(data)) == 6


def test_an_archive_with_other_images_is_refused(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(BadInputError, match=r"3 images of Toy in it, expected 4; nothing of it was kept"):
        obtain(catalog(server, images=4), "benchmark", tmp_path / "data", [2])
    assert files_of(tmp_path / "data") == {}
    with pytest.raises(BadInputError, match=r"expected 4; the archive is kept: .*x\.tar\.gz"):
        obtain(catalog(server, images=4, digests=True), "benchmark", tmp_path / "data", [2])
    assert [name for name in files_of(tmp_path / "data") if name.startswith("benchmark")] == []


def test_the_pixels_of_a_usual_test_set_decide(tmp_path: Path, server: FileServer, shared: Path) -> None:
    source = shared / "data/benchmark/Set5/HR"
    server.files["/right"] = tar_of(source, "r/benchmark/Set5/HR")
    (tmp_path / "wrong").mkdir()
    for path in source.iterdir():
        (tmp_path / "wrong" / path.name).write_bytes(path.read_bytes())
    image = read_rgb(source / "baby.png")
    image[100, 100, 0] ^= 1
    save_image(tmp_path / "wrong/baby.png", image)
    server.files["/wrong"] = tar_of(tmp_path / "wrong", "r/benchmark/Set5/HR")
    options = {"sets": ("Set5",), "images": 5}
    with pytest.raises(BadInputError, match="not the pixels or names of the usual copy"):
        obtain(catalog(server, "/wrong", **options), "benchmark", tmp_path / "data", [])
    assert files_of(tmp_path / "data") == {}
    obtain(catalog(server, "/wrong", "/right", **options), "benchmark", tmp_path / "data", [2, 3, 4])
    reports = check_set(tmp_path / "data", "Set5")
    assert [report.digest for report in reports] == ["same"] * 4 and not any(report.problems for report in reports)


@pytest.fixture
def df2k(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalogue of DIV2K and Flickr2K with two images each."""
    shorten_df2k(monkeypatch)
    known = catalog_of(server, "/x.tar.gz")
    known["sets"]["DF2K"] = SETS["DF2K"].model_dump()
    for name, folder, stems in (
        ("DIV2K", "DIV2K_train_HR", ["0001", "0002"]),
        ("Flickr2K", "Flickr2K_HR", ["000001", "000002"]),
    ):
        write_set(tmp_path / name, stems)
        server.files[f"/{name}"] = tar_of(tmp_path / name / "HR", f"{name}/{folder}", "w")
        known["sets"][name] = toy_set(name.lower(), f"{name}/{folder}", 2)
        source = {"url": server.url(f"/{name}"), "about": 1_000_000}
        known["archives"][name] = {"unpacked": 1000, "sources": [source], "sets": [name]}
    return Catalog.model_validate(known)


def test_df2k_is_laid_out_and_numbered_as_in_the_papers_list(tmp_path: Path, server: FileServer, df2k: Catalog) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        assert obtain(df2k, "df2k", data, [2, 3]) == ["DF2K"]
        assert [pair.name for pair in find_pairs(data, "DF2K", 3)] == ["0001", "0002", "0901", "0902"]
    assert len([path for path, _ in server.requests]) == 2
    mine = data / "DF2K/DF2K_train_LR_bicubic/X2/0001x2.png"
    mine.write_bytes(b"mine")
    for _ in ("whole", "interrupted"):
        obtain(df2k, "df2k", data, [2, 3])
        assert len(find_pairs(data, "DF2K", 3)) == 4 and mine.read_bytes() == b"mine"
        (data / "DF2K/DF2K_train_HR/0902.png").unlink()
    assert not (data / "DIV2K/DIV2K_train_LR_bicubic").exists()


@pytest.mark.parametrize("kind", ["file", "link of another name", "other layout"])
def test_an_incomplete_df2k_of_the_users_is_refused_before_anything_is_fetched(
    tmp_path: Path, server: FileServer, df2k: Catalog, kind: str
) -> None:
    hr = tmp_path / "data/DF2K" / ("HR" if kind == "other layout" else "DF2K_train_HR")
    write_set(tmp_path / "mine", ["0001", "mine"])
    hr.mkdir(parents=True)
    if kind == "file":
        (tmp_path / "mine/HR/0001.png").rename(hr / "0001.png")
    else:
        name = "0001.png" if kind == "other layout" else "mine.png"
        (hr / name).symlink_to(tmp_path / "mine/HR" / name)
    before = files_of(tmp_path / "data")
    with pytest.raises(OutputError, match=rf"{hr} exists but does not have the 4 images .* move .*data/DF2K away"):
        obtain(df2k, "df2k", tmp_path / "data", [2])
    assert not server.requests and files_of(tmp_path / "data") == before


def test_weights_are_those_of_the_blob_id(tmp_path: Path, server: FileServer) -> None:
    known = catalog_of(server, "/x.tar.gz")
    save_authors_weights(tmp_path / "2.pt", tiny(2))
    add_weights(known, server, 2, tmp_path / "2.pt")
    weights, folder = Catalog.model_validate(known), tmp_path / "pretrain_model"
    path = obtain_weights(weights, folder, 2)
    assert path.read_bytes() == (tmp_path / "2.pt").read_bytes() and set(files_of(folder)) == {"model_x2_290.pt"}
    server.requests.clear()
    obtain_weights(weights, folder, 2)
    assert server.requests == []
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"model_x2_290\.pt exists but is not the authors' release .*move it away"):
        obtain_weights(weights, folder, 2)
    assert path.read_bytes() == b"mine"
    path.unlink()
    server.always["/model_x2_290.pt"] = "tampered"
    with pytest.raises(BadInputError, match="git digest"):
        obtain_weights(weights, folder, 2)
    assert files_of(folder) == {}


def _killed_at(moment: int, work: Callable[[], None]) -> int:
    """How many calls and returns ``work`` makes in our download code; 0 where it was killed at the ``moment``-th."""
    places = {module.__file__ for module in (http, sources, unpack, prepare)}

    def task() -> int:
        seen = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal seen
            if frame.f_code.co_filename in places:
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(profile)
        work()
        sys.setprofile(None)
        return seen

    code, result = in_child(task)
    assert code in (0, -signal.SIGKILL), result
    return 0 if code == -signal.SIGKILL else result


def test_a_kill_at_any_moment_is_made_up_for(tmp_path: Path, server: FileServer) -> None:
    known = catalog(server)

    def get(folder: str) -> Callable[[], None]:
        return lambda: obtain(known, "benchmark", tmp_path / folder, [2])

    moments = _killed_at(0, get("whole"))
    whole = files_of(tmp_path / "whole")
    assert moments > 100 and len(whole) == 12
    for moment in range(moments // 16, moments * 9 // 10, moments // 16):
        folder = f"killed{moment}"
        assert _killed_at(moment, get(folder)) == 0
        for name in ("Toy", "Toy2"):
            hr = tmp_path / folder / "benchmark" / name / "HR"
            assert not hr.exists() or len(files_of(hr)) == 3, "half a set is in place"
        get(folder)()
        assert files_of(tmp_path / folder) == whole


def test_two_at_once_do_not_meet(tmp_path: Path, server: FileServer) -> None:
    with (
        sources._work_folder(tmp_path / "data", "all"),
        pytest.raises(BusyError, match="another download works there"),
    ):
        obtain(catalog(server), "benchmark", tmp_path / "data", [2])
    obtain(catalog(server), "benchmark", tmp_path / "data", [2])


def test_the_command_downloads_checks_and_names_licences(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture
) -> None:
    save_authors_weights(tmp_path / "2.pt", tiny(2))
    known = catalog_of(server, "/x.tar.gz")
    add_weights(known, server, 2, tmp_path / "2.pt")
    file = write_catalog(tmp_path / "sources.yaml", known)
    options = ["--to", str(tmp_path / "to"), "--sources", str(file), "--scales", "2"]
    command.main(["benchmark", *options])
    printed = capsys.readouterr().out
    assert printed.count("0 of 5,400") == 2 and "licence of Toy2: none" in printed
    apply = "Manga109 is given out by its owners: apply at https://manga109.org, then put its 109 images into "
    assert f"{apply}{tmp_path}/to/benchmark/Manga109/HR" in printed
    command.main(["manga109"])
    assert f"{apply}data/benchmark/Manga109/HR" in capsys.readouterr().out
    command.main(["weights", *options])
    assert "licence of the weights: MIT" in capsys.readouterr().out and (tmp_path / "to/model_x2_290.pt").exists()
    (tmp_path / "to/benchmark/Toy/HR/a.png").unlink()
    with pytest.raises(MissingInputError, match="1 LR images have no HR image"):
        command.main(["benchmark", *options])


def _weights(**source: Any) -> dict[str, Any]:
    return {"weights": {"licence": "x", "files": {2: source}}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"archive": {}}, "key 'archive'"),
        ({"sets": {"Toy": {"use": "fun"}}}, r"key 'sets\.Toy\.use'"),
        ({"sets": {}}, "archive 'all' holds Toy, Toy2, which 'sets' does not have"),
        (_weights(url="ftp://x", about=1), r"source.*url|url"),
        (_weights(url="http://x"), r"key 'weights\.files\.2\.about'"),
        ("connection: 2024-13-45", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("a: b: c", "not YAML"),
        ("\udcff", "not YAML"),
        ("", "key ''"),
    ],
)
def test_a_mistake_in_a_list_of_sources_is_named(
    tmp_path: Path, server: FileServer, change: Any, expected: str
) -> None:
    file = tmp_path / "sources.yaml"
    if isinstance(change, str):
        file.write_bytes(change.encode("utf-8", "surrogateescape"))
    else:
        write_catalog(file, catalog_of(server, "/x.tar.gz") | change)
    with pytest.raises(ConfigError, match=rf"sources\.yaml: .*({expected})") as caught:
        read_catalog(file)
    assert "\n" not in str(caught.value)


def test_a_list_of_sources_without_something_says_so(tmp_path: Path, server: FileServer) -> None:
    known = catalog_of(server, "/x.tar.gz") | {"archives": {}}
    with pytest.raises(ConfigError, match="no archive with Toy, Toy2"):
        obtain(Catalog.model_validate(known), "benchmark", tmp_path, [])
    with pytest.raises(ConfigError, match="no weights for x3"):
        obtain_weights(catalog(server), tmp_path, 3)
    for absent in (tmp_path, Path("/dev/zero")):
        with pytest.raises(MissingInputError, match="expected a file like"):
            read_catalog(absent)


def test_the_shipped_catalogue_has_a_source_for_every_set_or_says_whom_to_ask() -> None:
    known = read_catalog()
    in_archives = {name for archive in known.archives.values() for name in archive.sets}
    for name, each in known.sets.items():
        assert bool(each.members) == (name in in_archives)
        assert each.page or each.parts or name in in_archives
    assert {scale: source.digest[:10] for scale, source in known.weights.files.items()} == {
        2: "git:45f13f", 3: "git:d0bf0b", 4: "git:959846"
    }  # fmt: skip

"""From a manifest to sets and weights in place, whatever the servers do and whenever the process dies."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import in_child
from file_server import FileServer, serving
from tiny import tiny
from toy_sets import shorten_df2k, write_set
from toy_sources import NAMES, add_weights, manifest_of, tar_of, toy_benchmark, write_manifest

from ssiu.cli import download as command
from ssiu.data import prepare
from ssiu.data.check import check_set
from ssiu.data.pairs import find_pairs
from ssiu.download import http as download
from ssiu.download import sources, unpack
from ssiu.download.sources import WORK, Manifest, obtain_df2k, obtain_sets, obtain_weights, read_manifest
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError
from ssiu.images.io import read_rgb, save_image
from ssiu.weights.formats import save_authors_weights


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with serving() as server:
        server.files["/x.tar.gz"] = server.files["/mirror/x.tar.gz"] = toy_benchmark(tmp_path / "made")
        yield server


def files_of(folder: Path) -> dict[str, str]:
    """Every file by its path, but locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in paths}


def manifest(server: FileServer, *paths: str, **options: Any) -> Manifest:
    return Manifest.model_validate(manifest_of(server, *(paths or ("/x.tar.gz",)), **options))


def test_sets_are_put_in_place_with_lr_of_every_scale(tmp_path: Path, server: FileServer) -> None:
    data = tmp_path / "data"
    assert obtain_sets(manifest(server), "benchmark", data, [2, 4]) == ["Toy", "Toy2"]
    for name in ("Toy", "Toy2"):
        for scale in (2, 4):
            assert [pair.name for pair in find_pairs(data, name, scale)] == NAMES
        assert not [problem for report in check_set(data, name) for problem in report.problems]
    original = tmp_path / "made/benchmark/Toy/HR/a.png"
    assert (data / "benchmark/Toy/HR/a.png").read_bytes() == original.read_bytes()
    assert not any(name.startswith(WORK) for name in files_of(data))


def test_the_second_time_nothing_is_asked_for_or_written(tmp_path: Path, server: FileServer) -> None:
    obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data/benchmark").rglob("*")}
    server.requests.clear()
    obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])
    assert server.requests == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data/benchmark").rglob("*")} == before


def test_what_is_there_is_never_written_to(tmp_path: Path, server: FileServer) -> None:
    mine = tmp_path / "data/Toy"
    write_set(mine, ["mine"])
    before = files_of(mine)
    obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])
    assert files_of(mine) == before and not (tmp_path / "data/benchmark/Toy").exists()
    assert (tmp_path / "data/benchmark/Toy2/HR/a.png").exists()


def test_lr_images_that_are_there_stay_whatever_they_are(tmp_path: Path, server: FileServer) -> None:
    data = tmp_path / "data"
    lr = data / "benchmark/Toy/LR_bicubic/X2"
    write_set(lr.parents[1], NAMES)
    later = (lr / "ax2.png").stat().st_mtime + 9
    os.utime(data / "benchmark/Toy/HR/a.png", (later, later))
    save_image(lr / "bx2.png", np.zeros((9, 9, 3), np.uint8))
    (lr / "cx2.png").rename(lr / "c.png")  # a name that is read as well
    lr.rename(lr.with_name("x2"))  # and a folder
    before = files_of(data)
    obtain_sets(manifest(server), "benchmark", data, [2, 4])
    after = files_of(data)
    assert {name: after.get(name) for name in before} == before
    made = {name for name in after.keys() - before.keys() if "/Toy/" in name}
    assert made == {f"benchmark/Toy/LR_bicubic/X4/{name}x4.png" for name in NAMES}
    with pytest.raises(BadInputError, match=r"bx2\.png is 9x9"):
        find_pairs(data, "Toy", 2)


def test_the_usual_copy_comes_beside_a_mod12_copy(tmp_path: Path, server: FileServer) -> None:
    root = tmp_path / "data/benchmark/Toy"
    write_set(root, ["a"], size=(48, 60))
    (root / "HR").rename(root / "GTmod12")
    (root / "LR_bicubic/X2").rename(root / "LRbicx2")
    obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])
    assert len(find_pairs(tmp_path / "data", "Toy", 2)) == 3
    assert len(find_pairs(tmp_path / "data", "Toy mod12", 2)) == 1


@pytest.mark.parametrize(
    "fault", ["gone", "page", "page as file", "tampered", "truncated", "stall", "busy", "nonsense"]
)
@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "without"])
def test_the_next_mirror_is_taken(tmp_path: Path, server: FileServer, fault: str, digests: bool) -> None:
    server.always["/x.tar.gz"] = fault
    known = manifest(server, "/x.tar.gz", "/mirror/x.tar.gz", digests=digests)
    obtain_sets(known, "benchmark", tmp_path / "data", [])
    assert (tmp_path / "data/benchmark/Toy/HR/c.png").exists() and len(files_of(tmp_path / "data")) == 6


@pytest.mark.parametrize("fault", ["page", "page as file", "tampered", "truncated", "stall", "gone", "endless"])
@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "without"])
def test_without_a_mirror_that_works_nothing_is_half_made(
    tmp_path: Path, server: FileServer, fault: str, digests: bool
) -> None:
    server.always |= {"/x.tar.gz": fault, "/mirror/x.tar.gz": fault}
    known = manifest(server, "/x.tar.gz", "/mirror/x.tar.gz", digests=digests)
    with pytest.raises((BadInputError, BusyError)) as caught:
        obtain_sets(known, "benchmark", tmp_path / "data", [2])
    message = str(caught.value)
    assert "\n" not in message and message.count("http://127.0.0.1") == 2
    names = files_of(tmp_path / "data")
    assert not any(name.startswith("benchmark") for name in names)
    assert all(".part" in name for name in names), names
    server.always.clear()
    obtain_sets(known, "benchmark", tmp_path / "data", [])
    assert len(files_of(tmp_path / "data")) == 6


def test_an_archive_with_other_images_is_refused(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(BadInputError, match=r"3 images of Toy in it, expected 4; nothing of it was kept"):
        obtain_sets(manifest(server, images=4), "benchmark", tmp_path / "data", [2])
    assert files_of(tmp_path / "data") == {}
    with pytest.raises(BadInputError, match=r"expected 4; the archive is kept: .*x\.tar\.gz"):
        obtain_sets(manifest(server, images=4, digests=True), "benchmark", tmp_path / "data", [2])
    assert [name for name in files_of(tmp_path / "data") if name.startswith("benchmark")] == []


def test_the_pixels_of_a_usual_test_set_decide(tmp_path: Path, shared: Path) -> None:
    with serving() as server:
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
            obtain_sets(manifest(server, "/wrong", **options), "benchmark", tmp_path / "data", [])
        assert files_of(tmp_path / "data") == {}
        obtain_sets(manifest(server, "/wrong", "/right", **options), "benchmark", tmp_path / "data", [2, 3, 4])
    reports = check_set(tmp_path / "data", "Set5")
    assert [report.digest for report in reports] == ["same"] * 4 and not any(report.problems for report in reports)


@pytest.fixture
def df2k(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest of DIV2K and Flickr2K with two images each."""
    shorten_df2k(monkeypatch)
    known = manifest_of(server, "/x.tar.gz")
    for name, archive, folder, members, stems in (
        ("DIV2K", "div2k_train", "DIV2K_train_HR", r"(?:.*/)?DIV2K_train_HR/(\d{4}\.png)", ["0001", "0002"]),
        ("Flickr2K", "flickr2k", "Flickr2K_HR", r"(?:.*/)?(\d{6}\.png)", ["000001", "000002"]),
    ):
        write_set(tmp_path / archive, stems)
        server.files[f"/{archive}"] = tar_of(tmp_path / archive / "HR", folder, "w")
        known["archives"][archive] = {
            "unpacked": 1000,
            "sources": [{"url": server.url(f"/{archive}"), "about": 1_000_000}],
            "sets": {name: {"hr": f"{name}/{folder}", "images": 2, "members": members, "licence": "none"}},
        }
    return Manifest.model_validate(known)


def test_df2k_is_laid_out_and_numbered_as_in_the_papers_list(
    tmp_path: Path, server: FileServer, df2k: Manifest
) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        assert obtain_df2k(df2k, data, [2, 3]) == ["DF2K"]
        assert [pair.name for pair in find_pairs(data, "DF2K", 3)] == ["0001", "0002", "0901", "0902"]
    assert len([path for path, _ in server.requests]) == 2
    mine = data / "DF2K/DF2K_train_LR_bicubic/X2/0001x2.png"
    mine.write_bytes(b"mine")
    for _ in ("whole", "interrupted"):
        obtain_df2k(df2k, data, [2, 3])
        assert len(find_pairs(data, "DF2K", 3)) == 4 and mine.read_bytes() == b"mine"
        (data / "DF2K/DF2K_train_HR/0902.png").unlink()
    assert not (data / "DIV2K/DIV2K_train_LR_bicubic").exists()


@pytest.mark.parametrize("kind", ["file", "link of another name", "other layout"])
def test_an_incomplete_df2k_of_the_users_is_refused_before_anything_is_fetched(
    tmp_path: Path, server: FileServer, df2k: Manifest, kind: str
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
    with pytest.raises(OutputError, match=rf"{hr} is there and not the list of 4 images .* move .*data/DF2K away"):
        obtain_df2k(df2k, tmp_path / "data", [2])
    assert not server.requests and files_of(tmp_path / "data") == before


@pytest.fixture
def weights(tmp_path: Path, server: FileServer) -> Manifest:
    """A manifest with the authors' x2 and x4, and the files it means in tmp_path."""
    known = manifest_of(server, "/x.tar.gz")
    for scale in (2, 4):
        save_authors_weights(tmp_path / f"{scale}.pt", tiny(scale))
        add_weights(known, server, scale, tmp_path / f"{scale}.pt")
    return Manifest.model_validate(known)


def test_weights_are_those_of_the_blob_id(tmp_path: Path, server: FileServer, weights: Manifest) -> None:
    folder = tmp_path / "pretrain_model"
    paths = obtain_weights(weights, folder, [2, 4])
    assert [path.read_bytes() for path in paths] == [(tmp_path / f"{s}.pt").read_bytes() for s in (2, 4)]
    assert set(files_of(folder)) == {"model_x2_290.pt", "model_x4_290.pt"}
    server.requests.clear()
    obtain_weights(weights, folder, [2, 4])
    assert server.requests == []
    paths[0].write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"model_x2_290\.pt is there but is not the authors' release .*move it away"):
        obtain_weights(weights, folder, [2])
    assert paths[0].read_bytes() == b"mine"
    paths[0].unlink()
    server.always["/model_x2_290.pt"] = "tampered"
    with pytest.raises(BadInputError, match="git digest"):
        obtain_weights(weights, folder, [2])
    assert set(files_of(folder)) == {"model_x4_290.pt"}


def _killed_at(moment: int, work: Callable[[], None]) -> int | str:
    """Does ``work`` in a fork that is killed at the ``moment``-th call or return in our download code.

    Returns how many such moments there were, or what it said when the server was too busy; 0 where it was killed.
    """
    places = {module.__file__ for module in (download, sources, unpack, prepare)}

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
    assert code in (0, -signal.SIGKILL, BusyError.exit_code), result
    return 0 if code == -signal.SIGKILL else result


def test_a_kill_at_any_moment_is_made_up_for(tmp_path: Path, server: FileServer) -> None:
    known = manifest(server)

    def get(folder: str) -> Callable[[], None]:
        return lambda: obtain_sets(known, "benchmark", tmp_path / folder, [2])

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


@pytest.mark.full
def test_kills_among_100_downloads_from_a_bad_server_are_made_up_for(tmp_path: Path, server: FileServer) -> None:
    known, rng = manifest(server), random.Random(1)
    moments = _killed_at(0, lambda: obtain_sets(known, "benchmark", tmp_path / "whole", [2]))
    whole = files_of(tmp_path / "whole")
    kills = 0
    for run in range(100):
        folder = tmp_path / f"{run}"
        server.faults["/x.tar.gz"] = rng.choices(["cut", "good", "ignores range", "busy"], k=3)
        for _ in range(3):
            kills += _killed_at(rng.randint(1, moments), partial(obtain_sets, known, "benchmark", folder, [2])) == 0
        server.faults.clear()
        obtain_sets(known, "benchmark", folder, [2])
        assert files_of(folder) == whole
    assert kills > 150


def test_two_at_once_do_not_meet(tmp_path: Path, server: FileServer) -> None:
    with (
        sources._work_folder(tmp_path / "data", "benchmark"),
        pytest.raises(BusyError, match="another download works there"),
    ):
        obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])
    obtain_sets(manifest(server), "benchmark", tmp_path / "data", [2])


def test_the_command_downloads_checks_and_names_licences(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture
) -> None:
    save_authors_weights(tmp_path / "2.pt", tiny(2))
    known = manifest_of(server, "/x.tar.gz")
    add_weights(known, server, 2, tmp_path / "2.pt")
    file = write_manifest(tmp_path / "sources.yaml", known)
    options = ["--to", str(tmp_path / "to"), "--sources", str(file), "--scales", "2"]
    command.main(["benchmark", *options])
    printed = capsys.readouterr().out
    assert printed.count("0 of 5,400") == 2 and "licence of Toy2: none" in printed
    assert (
        f"Manga109 is given out by its owners: apply at https://example.org, put the 109 images into {tmp_path}"
        in printed
    )
    command.main(["weights", *options])
    assert "loaded 155/155 tensors" in capsys.readouterr().out and (tmp_path / "to/model_x2_290.pt").exists()
    (tmp_path / "to/benchmark/Toy/HR/a.png").unlink()
    with pytest.raises(MissingInputError, match="1 LR images have no HR image"):
        command.main(["benchmark", *options])


def _archive(members: str) -> dict[str, Any]:
    files = {"hr": "Toy", "images": 1, "members": members, "licence": "none"}
    return {"unpacked": 1, "sources": [{"url": "http://x", "about": 1}], "sets": {"Toy": files}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"conection": {}}, "key 'conection'"),
        ({"connection": {"timeout": 0, "attempts": 1, "wait": 0}}, r"key 'connection\.timeout'"),
        ({"archives": {"a": _archive("(")}}, r"archives\.a\.sets\.Toy\.members.*no regular expression"),
        ({"archives": {"a": _archive("x")}}, r"archives\.a\.sets\.Toy\.members.*0 groups, expected one"),
        ({"weights": {"licence": "x", "files": {2: {"name": "a", "source": {"url": "ftp://x"}}}}}, r"source\.url"),
        ({"weights": {"licence": "x", "files": {2: {"name": "a", "source": {"url": "http://x"}}}}}, "source'.*'bytes'"),
    ],
)
def test_a_mistake_in_the_manifest_is_named(tmp_path: Path, server: FileServer, change: dict, expected: str) -> None:
    file = write_manifest(tmp_path / "sources.yaml", manifest_of(server, "/x.tar.gz") | change)
    with pytest.raises(ConfigError, match=expected):
        read_manifest(file)


@pytest.mark.parametrize("text", ["connection: 2024-13-45", "[" * 5000, "a: b: c", "\udcff", ""])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"sources\.yaml: ") as caught:
        read_manifest(tmp_path / "sources.yaml")
    assert "\n" not in str(caught.value)


def test_a_manifest_without_something_says_so(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(ConfigError, match="no archive 'flickr2k', only benchmark"):
        obtain_sets(manifest(server), "flickr2k", tmp_path, [])
    with pytest.raises(ConfigError, match="no weights for x3"):
        obtain_weights(manifest(server), tmp_path, [3])


def test_the_shipped_manifest_is_whole() -> None:
    known = read_manifest()
    assert {name for names in sources.ARCHIVES.values() for name in names} == set(known.archives)
    for archive in known.archives.values():
        assert all(source.expected_bytes > 0 for source in archive.sources)
        assert all(files.licence for files in archive.sets.values())
    assert {scale: file.source.digest[:10] for scale, file in known.weights.files.items()} == {
        2: "git:45f13f", 3: "git:d0bf0b", 4: "git:959846"
    }  # fmt: skip
    place = sources._placer(known.archives["benchmark"].sets)
    assert place("baseline-c9e9/benchmark/Set5/HR/baby.png") == place("benchmark/Set5/HR/baby.png")
    assert place("benchmark/Set5/HR/._baby.png") is None  # what macOS puts into archives
    assert place("benchmark/Set5/LR_bicubic/X2/babyx2.png") is None
    assert place("benchmark/Urban100/HR/img_001.png") == "benchmark/Urban100/HR/img_001.png"
    flickr = sources._placer(known.archives["flickr2k"].sets)
    assert flickr("Flickr2K/Flickr2K_HR/000001.png") == flickr("000001.png") == "Flickr2K/Flickr2K_HR/000001.png"
    assert flickr("Flickr2K/Flickr2K_LR_bicubic/X2/000001x2.png") is None

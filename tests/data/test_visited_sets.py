"""Sets whose images are decoded when they are first visited: the same samples, and a cache with or without a bound."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_config
from toy_sets import write_set

from ssiu.cli import check
from ssiu.data import cache as cache_module
from ssiu.data import headers
from ssiu.data import pairs as pairs_module
from ssiu.data.patches import PatchStream
from ssiu.data.test_sets import load_test_set, shared_files
from ssiu.data.training_data import build_stream
from ssiu.errors import BadInputError, MissingInputError, SaveError
from ssiu.images.io import read_rgb, save_image

NAMES = [f"p{number:02}" for number in range(12)]
PAIR_BYTES = 3 * (40 * 60 + 20 * 30) + 800  # of a cached pair, with the files' headers and trailers


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of more than three pairs is a large one."""
    monkeypatch.setattr(pairs_module, "LARGE_SET", 3)


@pytest.fixture
def stream_of(tmp_path: Path) -> Callable[..., PatchStream]:
    """``stream_of(**keys)``: of the set ``toy`` with 12 images."""
    write_set(tmp_path / "data/toy", NAMES)

    def build(**keys: object) -> PatchStream:
        return build_stream(tiny_config(tmp_path, training_dataset="toy", **keys))

    return build


def cached(folder: Path) -> int:
    return len(list(folder.rglob("*.npy")))


def same(ours: PatchStream, theirs: PatchStream, batches: int = 12) -> bool:
    return all(torch.equal(a, b) for m in range(batches) for a, b in zip(ours.batch(m), theirs.batch(m), strict=True))


@pytest.mark.parametrize("keys", [{}, {"cache_gb": 1}, {"cache_gb": 5 * PAIR_BYTES / 1e9}, {"cache_gb": 0}], ids=str)
def test_the_samples_are_those_of_a_set_that_was_decoded_before(stream_of, tmp_path: Path, large, keys: dict) -> None:
    visited = stream_of(**keys, cache_dir=str(tmp_path / "visited"))
    assert cached(tmp_path / "visited") == 0
    prepared = PatchStream([_prepared(stream_of, tmp_path)], 2, 24, 2, data_repeat=2, seed=2024)
    assert same(visited, prepared) and same(visited, prepared)
    for threads in (1, 3):
        for m, batch in enumerate(visited.loader(0, 12, threads=threads)):
            assert all(torch.equal(a, b) for a, b in zip(batch, prepared.batch(m), strict=True))
    kept = cached(tmp_path / "visited")
    assert kept == 24 if keys.get("cache_gb", 1) == 1 else 0 < kept <= 10 if keys["cache_gb"] else kept == 0


def _prepared(stream_of, tmp_path: Path):
    before, pairs_module.LARGE_SET = pairs_module.LARGE_SET, 5000
    try:
        return stream_of(cache_dir=str(tmp_path / "prepared")).sets[0]
    finally:
        pairs_module.LARGE_SET = before


def test_an_image_is_decoded_once_by_the_worker_that_visits_it_first(stream_of, tmp_path, large, monkeypatch) -> None:
    assert len(list(stream_of().loader(0, 12, threads=2))) == 12
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*.npy")}
    assert len(times) == 24
    monkeypatch.setattr(cache_module, "decode_rgb", None)  # would fail if called
    assert len(list(stream_of().loader(0, 12, threads=2))) == 12
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*.npy")}


@pytest.mark.parametrize("gb", [None, 1, 0])
def test_lr_is_made_of_hr_when_it_is_first_needed(stream_of, tmp_path: Path, large, gb: float | None) -> None:
    with_lr = PatchStream([_prepared(stream_of, tmp_path)], 2, 24, 2, data_repeat=2, seed=2024)
    shutil.rmtree(tmp_path / "data/toy/LR_bicubic")
    made = stream_of(cache_gb=gb)
    assert same(made, with_lr) and same(made, with_lr)
    assert cached(tmp_path / "cache") == (0 if gb == 0 else 24)


def test_a_bounded_cache_never_passes_its_bound_under_four_workers(stream_of, tmp_path: Path) -> None:
    limit = 5 * PAIR_BYTES
    stream = stream_of(cache_gb=limit / 1e9)
    largest, done = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.is_set():
            sizes = []
            for entry in os.scandir(tmp_path / "cache/bounded") if (tmp_path / "cache/bounded").is_dir() else ():
                try:
                    sizes.append(entry.stat().st_size if entry.name.endswith((".npy", ".part")) else 0)
                except FileNotFoundError:
                    continue
            largest = max(largest, sum(sizes))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    seen = [batch[1].clone() for batch in stream.loader(0, 40, threads=4)]
    done.set()
    watcher.join()
    assert limit / 2 < largest <= limit
    assert all(torch.equal(batch, stream.batch(m)[1]) for m, batch in enumerate(seen))


def test_what_a_bounded_cache_drops_is_never_what_another_run_has_prepared(stream_of, tmp_path: Path) -> None:
    prepared = stream_of()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*.npy")}
    assert len(files) == 24
    list(stream_of(cache_gb=2 * PAIR_BYTES / 1e9).loader(0, 24, threads=2))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*.npy")}
    assert same(prepared, stream_of(cache_gb=0))


# digests


def test_the_digest_of_a_small_set_is_that_of_contents_however_it_is_cached(stream_of, tmp_path: Path) -> None:
    prepared = stream_of().manifest
    assert stream_of(cache_gb=0).manifest == stream_of(cache_gb=1).manifest == prepared
    shutil.rmtree(tmp_path / "data/toy/LR_bicubic")
    alone = stream_of().manifest
    assert alone != prepared and stream_of(cache_gb=0).manifest == alone


def test_the_digest_of_a_large_set_is_of_names_file_sizes_and_dimensions(stream_of, tmp_path: Path, large) -> None:
    def changed(change: Callable[[Path], object]) -> bool:
        shutil.rmtree(tmp_path / "data")
        write_set(tmp_path / "data/toy", NAMES)
        before = stream_of().manifest
        change(tmp_path / "data/toy/HR/p03.png")
        return stream_of().manifest != before

    def lengthen(path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"\0")

    def other_pixels_in_as_many_bytes(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)

    def turn(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[:16] + content[20:24] + content[16:20] + content[24:])

    def rename(path: Path) -> None:
        for old in (path, path.parents[1] / "LR_bicubic/X2/p03x2.png"):
            old.rename(old.with_name(old.name.replace("p03", "p99")))

    assert changed(lengthen) and changed(rename)
    assert not changed(other_pixels_in_as_many_bytes) and not changed(Path.touch)
    with pytest.raises(BadInputError, match="height and width look swapped"):
        changed(turn)


def test_a_large_set_decodes_and_reads_nothing_at_the_start_but_its_index(
    stream_of, tmp_path, large, monkeypatch
) -> None:
    first = stream_of()
    (index,) = tmp_path.glob("cache/index_*.npz")
    monkeypatch.setattr(headers, "_image_size", None)  # would fail if called
    assert stream_of().manifest == first.manifest and cached(tmp_path / "cache") == 0
    index.unlink()
    with pytest.raises(TypeError):
        stream_of()


# what goes wrong


def test_an_image_that_turns_out_damaged_is_named_and_check_finds_it_before(stream_of, tmp_path, large, capsys) -> None:
    path = tmp_path / "data/toy/HR/p03.png"
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    stream = stream_of()
    with pytest.raises(BadInputError, match=r"HR/p03\.png: damaged PNG"):
        list(stream.loader(0, 12, threads=2))
    with pytest.raises(BadInputError, match=r"p03\.png"):
        check.main([str(tmp_path / "data")])
    assert "p03.png: damaged PNG" in capsys.readouterr().out


def test_an_image_that_changes_while_training_is_named(stream_of, tmp_path: Path, large) -> None:
    for gb in (None, 1, 0):
        stream = stream_of(cache_gb=gb)
        save_image(tmp_path / "data/toy/HR/p03.png", read_rgb(tmp_path / "data/toy/HR/p03.png")[:, ::-1] // 2)
        with pytest.raises(BadInputError, match=r"HR/p03\.png: not the 60x40 pixels in [\d,]+ bytes that it had"):
            list(stream.loader(0, 12, threads=2))
        stream = stream_of(cache_gb=gb)
        (tmp_path / "data/toy/HR/p03.png").rename(tmp_path / "moved.png")
        with pytest.raises(MissingInputError, match=r"HR/p03\.png"):
            list(stream.loader(0, 12, threads=2))
        (tmp_path / "moved.png").rename(tmp_path / "data/toy/HR/p03.png")


def test_a_disk_that_is_too_small_for_all_images_is_said_at_the_start(stream_of, tmp_path, large, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 3 * PAIR_BYTES))
    with pytest.raises(SaveError, match=r"the image cache needs .* set cache_gb to bound it, or cache_dir"):
        stream_of()
    stream_of(cache_gb=1)
    monkeypatch.undo()
    monkeypatch.setattr(pairs_module, "LARGE_SET", 3)
    list(stream_of().loader(0, 12, threads=1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 3 * PAIR_BYTES))
    assert cached(tmp_path / "cache") == 24
    stream_of()  # all are there


def test_what_killed_workers_left_is_removed(stream_of, tmp_path: Path, large) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/.ssiu-0123456789abcdef.part").write_bytes(b"half")
    stream_of()
    assert not list(tmp_path.glob("cache/*.part"))


def test_a_large_set_is_compared_with_test_sets_too(stream_of, tmp_path: Path, large) -> None:
    write_set(tmp_path / "data/other", ["q0", "q1", "q2"], seed=5)
    shutil.copy(tmp_path / "data/toy/HR/p07.png", tmp_path / "data/other/HR/q1.png")
    shutil.copy(tmp_path / "data/toy/LR_bicubic/X2/p07x2.png", tmp_path / "data/other/LR_bicubic/X2/q1x2.png")
    found = shared_files(stream_of().sets[0], [load_test_set(tmp_path / "data", "other", 2)])
    assert found == {"other": ["q1"]}

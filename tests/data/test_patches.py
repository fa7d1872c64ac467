"""The training stream: a pure function of (seed, number), uniform, and equal for all workers, ranks and restarts."""

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from toy_sets import write_set

from ssiu.data import loader as loader_module
from ssiu.data.cache import ImageCache
from ssiu.data.pairs import find_pairs
from ssiu.data.patches import PatchStream
from ssiu.data.training_set import TrainingSet
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError
from ssiu.images.io import read_rgb, save_image


@pytest.fixture
def make_stream(make_pairs, tmp_path: Path):
    """``make_stream(count, scale, size, **PatchStream arguments)``."""

    def make(count: int = 4, scale: int = 2, size: tuple[int, int] = (40, 60), **arguments) -> PatchStream:
        there = (tmp_path / "data").exists()
        pairs = find_pairs(tmp_path / "data", "toy", scale) if there else make_pairs(count, scale, size)
        arguments = {"patch_size": 8 * scale, "batch_size": 4, "data_repeat": 3, "seed": 7, **arguments}
        toy = TrainingSet("toy", pairs, scale, ImageCache(tmp_path / "cache"), arguments["patch_size"])
        return PatchStream([toy], scale, **arguments)

    return make


def orientations(patch: np.ndarray) -> list[bytes]:
    """The eight flips and rotations of (3, h, w)."""
    turned = [np.rot90(patch, k, (1, 2)) for k in range(4)]
    return [np.ascontiguousarray(p).tobytes() for turn in turned for p in (turn, turn[:, :, ::-1])]


def test_a_sample_is_an_aligned_crop_in_one_orientation(make_stream) -> None:
    stream = make_stream(scale=3, size=(41, 62))
    for g in range(40):
        lr, hr = stream.sample(g)
        assert lr.shape == (3, 8, 8) and hr.shape == (3, 24, 24) and lr.dtype == hr.dtype == torch.uint8
        (images, index), (top, left, orientation) = stream.image(g), stream.place(g)
        whole_lr, whole_hr = images.open(index)
        lr_crop = whole_lr[:, top : top + 8, left : left + 8]
        hr_crop = whole_hr[:, 3 * top : 3 * top + 24, 3 * left : 3 * left + 24]
        assert lr_crop.shape == (3, 8, 8) and hr_crop.shape == (3, 24, 24)
        lr_which = orientations(lr_crop).index(lr.numpy().tobytes())
        assert lr_which == orientations(hr_crop).index(hr.numpy().tobytes())
        assert (lr_which == 0) == (orientation == 0)


def test_each_image_comes_exactly_data_repeat_times_an_epoch(make_stream) -> None:
    stream = make_stream(count=7, data_repeat=5, batch_size=4)
    epochs = [[stream.image_index(35 * epoch + i) for i in range(35)] for epoch in range(3)]
    for images in epochs:
        assert np.bincount(images).tolist() == [5] * 7
    assert epochs[0] != epochs[1] != epochs[2]
    assert stream.samples_per_epoch == 35


def test_batches_are_full_and_run_across_the_end_of_an_epoch(make_stream) -> None:
    stream = make_stream(count=3, data_repeat=1, batch_size=4)
    lr, hr = stream.batch(0)
    assert lr.shape == (4, 3, 8, 8) and hr.shape == (4, 3, 16, 16)
    for i in range(4):
        assert torch.equal(lr[i], stream.sample(i)[0]) and torch.equal(hr[i], stream.sample(i)[1])
    assert stream.names(0) == [f"toy/p{stream.image_index(g):02}" for g in range(4)]
    assert sorted(stream.names(0)[:3]) == ["toy/p00", "toy/p01", "toy/p02"]


def test_crops_and_orientations_are_uniform(make_stream) -> None:
    stream = make_stream(count=2, size=(32, 36), patch_size=16, data_repeat=8000)
    places = np.array([stream.place(g) for g in range(16_000)])
    cells = np.zeros((9, 11, 8))
    np.add.at(cells, tuple(places.T), 1)
    assert chisquare(cells.sum(axis=(1, 2))).pvalue > 1e-3
    assert chisquare(cells.sum(axis=(0, 2))).pvalue > 1e-3
    assert chisquare(cells.sum(axis=(0, 1))).pvalue > 1e-3
    assert chisquare(cells.ravel()).pvalue > 1e-3


def test_the_order_of_an_epoch_is_a_uniform_permutation(make_stream) -> None:
    stream = make_stream(count=6, data_repeat=1)
    first = np.bincount([stream.image_index(6 * epoch) for epoch in range(3000)], minlength=6)
    follows = np.bincount(
        [6 * stream.image_index(6 * e + 2) + stream.image_index(6 * e + 3) for e in range(3000)], minlength=36
    )
    assert chisquare(first).pvalue > 1e-3
    assert chisquare(follows[follows > 0]).pvalue > 1e-3 and np.count_nonzero(follows) == 30


def test_seed_epoch_and_augment_change_what_they_should(make_stream) -> None:
    stream, other, plain = make_stream(), make_stream(seed=8), make_stream(augment=False)
    assert any(stream.place(g) != other.place(g) for g in range(12))
    assert any(stream.place(g) != stream.place(g + 12) for g in range(12))
    assert [plain.place(g) for g in range(50)] == [(*stream.place(g)[:2], 0) for g in range(50)]
    assert torch.equal(make_stream().batch(3)[1], stream.batch(3)[1])


def test_the_stream_never_changes(make_stream) -> None:
    """Golden numbers: a resumed run of another day, machine or NumPy must see the same samples."""
    stream = make_stream(count=5, size=(80, 100), seed=2024)
    assert [stream.image_index(g) for g in range(15)] == GOLDEN_IMAGES
    assert [stream.place(g) for g in (0, 1, 14, 15, 10**9)] == GOLDEN_PLACES


GOLDEN_IMAGES = [4, 1, 2, 0, 0, 1, 4, 3, 0, 3, 2, 3, 2, 1, 4]
GOLDEN_PLACES = [(29, 26, 3), (4, 9, 6), (21, 32, 1), (32, 3, 7), (30, 16, 1)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_workers_change_nothing(make_stream, threads: int) -> None:
    stream = make_stream(count=5, batch_size=10)
    expected = [stream.sample(g) for g in range(1000)]
    seen = [sample for batch in stream.loader(0, 100, threads=threads) for sample in zip(*batch, strict=True)]
    assert len(seen) == 1000
    assert all(torch.equal(a, b) for x, y in zip(seen, expected, strict=True) for a, b in zip(x, y, strict=True))


def test_workers_need_nothing_that_only_unix_has(make_stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")
    stream = make_stream()
    lr, _ = next(iter(stream.loader(0, 2, threads=1)))
    assert torch.equal(lr, stream.batch(0)[0])


@pytest.mark.parametrize("threads", [0, 2])
def test_ranks_divide_every_batch(make_stream, threads: int) -> None:
    stream = make_stream(count=5, batch_size=10)
    ranks = [stream.loader(0, 100, rank, 2, threads) for rank in range(2)]
    for m, shares in enumerate(zip(*ranks, strict=True)):
        for whole, *parts in zip(stream.batch(m), *shares, strict=True):
            assert torch.equal(whole, torch.cat(parts))
    assert stream.names(3) == stream.names(3, 0, 2) + stream.names(3, 1, 2)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_restart_continues_with_the_very_next_batch(make_stream, threads: int) -> None:
    stream = make_stream()
    loader = stream.loader(5, 12, threads=threads)
    batches = list(loader)
    assert len(batches) == len(loader) == 7
    for m, (lr, hr) in enumerate(batches, start=5):
        assert torch.equal(lr, stream.batch(m)[0]) and torch.equal(hr, stream.batch(m)[1])
        assert lr.is_contiguous() and hr.is_contiguous() and lr.dtype == hr.dtype == torch.uint8
    assert list(stream.loader(5, 5, threads=threads)) == []


def test_the_loader_leaves_the_global_random_state_alone(make_stream) -> None:
    before = torch.random.get_rng_state()
    list(make_stream().loader(0, 3, threads=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_pickled_stream_gives_the_same_samples(make_stream) -> None:
    stream = make_stream()
    assert torch.equal(pickle.loads(pickle.dumps(stream)).batch(2)[1], stream.batch(2)[1])


def test_spawned_workers_give_the_same_samples(make_stream, monkeypatch) -> None:
    stream = make_stream()
    spawn = torch.multiprocessing.get_context("spawn")
    monkeypatch.setattr(loader_module.multiprocessing, "get_context", lambda: spawn)
    for m, (_, hr) in enumerate(stream.loader(0, 4, threads=1)):
        assert torch.equal(hr, stream.batch(m)[1])


def test_the_manifest_changes_with_a_pixel_but_not_with_the_place(make_stream, tmp_path: Path) -> None:
    manifest = make_stream().manifest
    (tmp_path / "data").rename(tmp_path / "moved")
    pairs = find_pairs(tmp_path / "moved", "toy", 2)
    cache = ImageCache(tmp_path / "cache")
    assert TrainingSet("moved", pairs, 2, cache).digest == manifest
    assert TrainingSet("moved", find_pairs(tmp_path / "moved", "toy", 2, {"p00", "p01"}), 2, cache).digest != manifest
    image = read_rgb(pairs[0].hr)
    image[0, 0, 0] ^= 1
    save_image(pairs[0].hr, image)
    assert TrainingSet("moved", pairs, 2, cache).digest != manifest


def test_images_smaller_than_a_patch_are_counted_and_named(make_pairs, tmp_path: Path) -> None:
    make_pairs(3)
    write_set(tmp_path / "data/toy", ["p03", "p04"], size=(8, 60))
    pairs = find_pairs(tmp_path / "data", "toy", 2)
    with pytest.raises(BadInputError, match=r"2 of 5 images of toy .* patch_size 16: p03, p04; .*patch_size"):
        TrainingSet("toy", pairs, 2, ImageCache(tmp_path / "cache"), 16)
    assert not (tmp_path / "cache").exists()


def test_a_image_of_exactly_a_patch_works(make_stream) -> None:
    assert make_stream(size=(16, 16)).place(3)[:2] == (0, 0)


def test_what_cannot_be_streamed_is_refused(make_stream, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patch_size"):
        make_stream(patch_size=15)
    with pytest.raises(ConfigError, match="batch_size"):
        make_stream().loader(0, 4, 0, 3)
    with pytest.raises(MissingInputError, match="toy has no images"):
        TrainingSet("toy", find_pairs(tmp_path / "data", "toy", 2, {"none"}), 2, ImageCache(tmp_path))


def test_a_damaged_image_ends_before_the_first_step(make_pairs, tmp_path: Path) -> None:
    pairs = make_pairs(3)
    pairs[1].lr.write_bytes(pairs[1].lr.read_bytes()[:-15])
    with pytest.raises(BadInputError, match=r"p01x2\.png"):
        TrainingSet("toy", pairs, 2, ImageCache(tmp_path / "cache"))


def _workers() -> list[int]:
    return [process.pid for process in torch.multiprocessing.active_children()]


@pytest.mark.parametrize("delay", [0, 0.001, pytest.param(None, marks=pytest.mark.full)])
def test_a_worker_that_dies_ends_the_iteration_at_once(make_stream, delay: float | None) -> None:
    for wait in [delay] if delay is not None else np.linspace(0, 0.02, 20):
        _kill_a_worker(make_stream, wait)


def _kill_a_worker(make_stream, delay: float) -> None:
    batches = iter(make_stream().loader(0, 10**6, threads=2))
    next(batches)
    workers = _workers()
    time.sleep(delay)
    os.kill(workers[-1], signal.SIGKILL)
    start = time.perf_counter()
    with pytest.raises(BusyError, match=r"died \(SIGKILL\).*'threads'.*shared memory") as caught:
        for _ in batches:
            pass
    assert time.perf_counter() - start < 2 and caught.value.exit_code == 75
    assert len(workers) == 2 and not _workers()


def test_workers_outlive_group_signals(make_stream) -> None:
    batches = iter(make_stream().loader(0, 200, threads=2))
    next(batches)
    for worker in _workers():
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGHUP)
    assert sum(1 for _ in batches) == 199


ROOT = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing, torch
from ssiu.data.loader import PatchLoader

class Ones:
    def empty_batch(self, world):
        return torch.empty(1), torch.empty(1)
    def fill(self, m, rank, world, lr, hr):
        lr.fill_(1)

multiprocessing.set_start_method("spawn", force=True)
print(len(list(PatchLoader(Ones(), 0, 2, 0, 1, threads=1, pin_memory=False))))
"""


def test_a_script_without_a_guard_is_told_so_and_not_to_free_memory(tmp_path: Path) -> None:
    """Where workers are spawned, as on macOS, each of them runs the script first."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert "ended with exit code 1" in run.stderr and "if __name__ == '__main__':" in run.stderr
    assert "memory" not in run.stderr.splitlines()[-1]


def test_an_error_in_a_worker_arrives_as_one_line(make_stream) -> None:
    stream = make_stream()
    images, index = stream.image(9)
    images.prepared[2 * index + 1].path.unlink()
    with pytest.raises(MissingInputError) as caught:
        list(stream.loader(0, 30, threads=2))
    assert "\n" not in str(caught.value)


def test_workers_that_deliver_nothing_are_reported(make_stream, monkeypatch) -> None:
    monkeypatch.setattr(loader_module, "STALLED_AFTER", 0.2)
    monkeypatch.setattr(loader_module, "GLANCE", 0.1)
    batches = iter(make_stream().loader(0, 10**6, threads=1))
    next(batches)
    (worker,) = _workers()
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(BusyError, match=r"no training batch for 0\.2 s"):
        for _ in batches:
            pass


def test_too_little_shared_memory_is_said_before_the_start(make_stream, monkeypatch) -> None:
    stream = make_stream()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(BusyError, match="shared memory"):
        next(iter(stream.loader(0, 9, threads=2)))


ORPHAN_PROGRAM = """
import os, signal, sys
from pathlib import Path
from ssiu.data.cache import ImageCache
from ssiu.data.pairs import find_pairs
from ssiu.data.patches import PatchStream
from ssiu.data.training_set import TrainingSet
toy = TrainingSet("toy", find_pairs(sys.argv[1], "toy", 2), 2, ImageCache(sys.argv[2]))
stream = PatchStream([toy], 2, 16, 4)
batches = iter(stream.loader(0, 10**6, threads=3))
next(batches)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
if sys.argv[3] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["killed", "leaves"])
def test_no_worker_outlives_its_parent(make_pairs, tmp_path: Path, end: str) -> None:
    make_pairs()
    arguments = [sys.executable, "-c", ORPHAN_PROGRAM, str(tmp_path / "data"), str(tmp_path / "cache"), end]
    parent = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert parent.returncode == (-signal.SIGKILL if end == "killed" else 0), parent.stderr
    workers = [Path(f"/proc/{pid}") for pid in parent.stdout.split()]
    deadline = time.monotonic() + 5
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(workers) == 3


def test_a_worker_that_closes_its_pipe_before_it_is_gone_is_waited_for_though_another_has_ended() -> None:
    def die_slowly() -> None:
        far_end.close()
        time.sleep(0.5)
        os._exit(3)

    context = multiprocessing.get_context("fork")
    link, far_end = context.Pipe()
    ended, dying = context.Process(target=int), context.Process(target=die_slowly)
    ended.start()
    ended.join()
    dying.start()
    far_end.close()
    with pytest.raises(BusyError, match="ended with exit code 3"):
        loader_module._receive(link, dying, [ended, dying])

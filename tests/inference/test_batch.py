"""Upscaling many files: what is never replaced, and that nothing one file does stops the others."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from described import described_png
from doubling import Doubling
from faults import ends_within, in_child
from image_kinds import chunk, noise, packed_tiff, png
from PIL import Image
from small_sets import photo

from ssiu.cli import upscale as upscale_command
from ssiu.errors import DeviceMemoryError, NonFiniteError, SaveError
from ssiu.images.io import read_rgb, save_image, write_image
from ssiu.inference import batch
from ssiu.inference.batch import Report, upscale_files
from ssiu.inference.jobs import plan
from ssiu.inference.upscaler import Upscaler
from ssiu.progress import Progress

IMAGE = photo("chelsea", 37, 50)


def upscale(photos: Path, model: Doubling, **options: bool) -> Report:
    """Upscales ``photos`` into the folder ``out`` beside it."""
    output = photos.parent / "out"
    return upscale_files(Upscaler(model), plan([str(photos)], output), output, **options)


class Acting(Doubling):
    """Does something while it upscales the second image."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if len(self.seen) == 1:
            self.act()
        return super().forward(lr)


# ---------------------------------------------------------------- nothing one file does stops the others


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no such\nkernel"),
        KeyError("x"),
        MemoryError(),
        MemoryError("Unable to allocate"),
        NonFiniteError("NaN"),
    ],
)
def test_an_exception_nobody_thought_of_is_one_line_and_the_others_go_on(photos: Path, error: Exception) -> None:
    def fail() -> None:
        model.seen.append(None)  # once
        raise error

    model = Acting(fail)
    report = upscale(photos, model)
    assert report.done == 2 and len(report.failed) == 1
    assert "b.png: " in report.failed[0] and "\n" not in report.failed[0]
    assert ("not enough memory" in report.failed[0]) == isinstance(error, MemoryError)
    assert sorted(path.name for path in (photos.parent / "out").iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SaveError("full"), DeviceMemoryError("full")])
def test_a_full_disk_or_device_and_control_c_stop_the_batch(photos: Path, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        upscale(photos, Acting(fail))
    assert [path.name for path in (photos.parent / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "code, error", [(130, KeyboardInterrupt()), (74, SaveError("full")), (69, DeviceMemoryError("full"))]
)
def test_what_went_wrong_before_such_an_end_is_told_all_the_same(
    command, photos: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(upscale_command, "load_network", lambda *_: Acting(fail))
    (photos / "0bad.png").write_text("no image")
    ended, out, err = command(photos, "--output", photos.parent / "out")
    assert ended == code and "1 upscaled" in out and "1 failed" in out
    assert "0bad.png: not a readable image" in err and err.splitlines()[-1] in ("stopped", "error: full")


def test_a_12_bit_tiff_and_a_pipe_are_named_and_the_others_go_on(command, photos: Path) -> None:
    (photos / "aa.tif").write_bytes(packed_tiff(12))
    os.mkfifo(photos.parent / "pipe.png")  # its reader would wait for ever for a writer
    with ends_within(60):
        code, out, err = command(photos, photos.parent / "pipe.png", "--output", photos.parent / "out")
    assert code == 65 and "3 upscaled" in out and "2 failed" in out
    assert "aa.tif: 12 bits per sample" in err and "pipe.png: is a pipe or device" in err


@pytest.mark.parametrize("shape", ["long name", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_cannot_be_is_named_and_the_others_go_on(photos: Path, shape: str, overwrite: bool) -> None:
    output = photos.parent / "out"
    if shape == "long name":
        save_image(photos / f"{'x' * 251}.bmp", IMAGE)  # becomes a name of 256 bytes
        message = rf"cannot write {output}/x*\.webp: File name too long; choose another name"
    else:
        (output / "b.webp").mkdir(parents=True)
        message = rf".*/in/b\.png: {output}/b\.webp is a folder; rename it or choose another name for the file"
    model = Doubling()
    report = upscale_files(Upscaler(model), plan([str(photos)], output, ".webp"), output, overwrite)
    assert len(report.failed) == 1 and re.search(message, report.failed[0])
    assert len(model.seen) == report.done == (3 if shape == "long name" else 2) and not report.kept


def test_a_name_of_255_bytes_is_upscaled(command, photos: Path) -> None:
    name = "ü" * 125 + "x.png"
    (photos / "a.png").rename(photos / name)
    assert command(photos, "--output", photos.parent / "out")[0] == 0
    assert read_rgb(photos.parent / "out" / name).shape == (74, 100, 3)
    assert len(list((photos.parent / "out").iterdir())) == 3


def test_a_name_that_is_not_unicode_is_upscaled(command, photos: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (photos / "a.png").rename(photos / name)
    assert command(photos, "--output", photos.parent / "out")[0] == 0
    assert (photos.parent / "out" / name).exists()


def test_a_20000x20000_png_is_large_not_damaged(command, photos: Path) -> None:
    rows = png(np.zeros((1, 1, 1)), 1, 0)
    header = (20_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    (photos / "large.png").write_bytes(rows[:8] + chunk(b"IHDR", header) + rows[33:])
    code, out, err = command(photos, "--output", photos.parent / "out")
    assert code == 65 and "3 upscaled" in out
    assert (
        "large.png: declares more than 179 megapixels; at most 64 are read: cut it into parts" in err
        and "fetch" not in err
    )


# ---------------------------------------------------------------- several images at a time


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Meeting(Doubling):
    """Goes on with an image when another one is there as well."""

    reentrant = True

    def __init__(self, bad: int | None = None) -> None:
        super().__init__()
        self.both, self.bad = threading.Barrier(2, timeout=30), bad
        self.threads: list[int] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        self.both.wait()
        self.threads.append(torch.get_num_threads())
        if lr.shape[-1] == self.bad:
            raise ValueError("bad")
        return super().forward(lr)


@pytest.mark.usefixtures("two_threads")
def test_a_reentrant_network_upscales_two_images_at_once_each_into_its_own_file(photos: Path) -> None:
    other = noise(3, np.uint8, 40, 60)
    save_image(photos / "d.png", other)
    model = Meeting()
    assert upscale(photos, model).done == 4
    assert model.threads == [1] * 4 and torch.get_num_threads() == 2
    for name, image in (("a", IMAGE), ("d", other)):
        found = read_rgb(photos.parent / f"out/{name}.png").astype(int)
        assert np.abs(found - Upscaler(Doubling())(image)).max() <= 1, name  # threads round differently


@pytest.mark.usefixtures("two_threads")
def test_failures_are_told_in_the_order_of_the_images(photos: Path) -> None:
    for name in ("b", "d"):
        save_image(photos / f"{name}.png", noise(3, np.uint8, 40, 60))
    (photos / "aa.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = upscale(photos, Meeting(bad=60))
    assert [line.split("/")[-1].split(":")[0] for line in report.failed] == ["aa.png", "b.png", "d.png"]
    assert report.done == 2


def test_a_gpu_upscales_one_image_while_another_is_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, begun = threading.Lock(), threading.Condition()

    class OneByOne(Doubling):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            assert one.acquire(blocking=False), "two images in the network"
            sr = super().forward(lr)
            one.release()
            with begun:
                begun.notify_all()
            return sr

    def write_once_the_next_is_upscaled(path: Path, *rest: object) -> None:
        with begun:
            assert begun.wait_for(lambda: len(model.seen) >= min("abc".index(path.stem) + 2, 3), timeout=30)
        write_image(path, *rest)

    model = OneByOne()
    monkeypatch.setattr(batch, "write_image", write_once_the_next_is_upscaled)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    upscaler = Upscaler(model, tile=0)
    upscaler.network = replace(upscaler.network, device=torch.device("cuda"))
    output = photos.parent / "out"
    report = upscale_files(upscaler, plan([str(photos)], output), output)
    assert (report.done, report.failed) == (3, [])


# ---------------------------------------------------------------- nothing is replaced


def test_what_appears_while_the_network_runs_is_kept(photos: Path) -> None:
    target = photos.parent / "out/b.png"
    report = upscale(photos, Acting(lambda: target.write_text("precious")))
    assert (report.done, report.kept, report.failed) == (2, [target], [])
    assert target.read_text() == "precious"
    report = upscale(photos, Acting(lambda: target.write_text("old")), overwrite=True)
    assert report.done == 3 and read_rgb(target).shape == (74, 100, 3)


def test_what_another_run_has_written_by_now_costs_no_pass(photos: Path) -> None:
    model = Acting(lambda: save_image(photos.parent / "out/c.png", IMAGE))
    report = upscale(photos, model)
    assert report.done == 2 and len(report.kept) == 1 and len(model.seen) == 2


def test_two_runs_into_one_folder_both_end_and_share_the_work(photos: Path) -> None:
    for number in range(20):
        save_image(photos / f"{number}.png", noise(3, np.uint8, 40, 40))
    meet = threading.Barrier(2)
    inodes: dict[str, set[int]] = {}

    class Slow(Doubling):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            for path in (photos.parent / "out").glob("*.png"):
                inodes.setdefault(path.name, set()).add(path.stat().st_ino)
            return super().forward(lr)

    reports: list[Report] = []

    def run() -> None:
        jobs = plan([str(photos)], photos.parent / "out")
        meet.wait()
        reports.append(upscale_files(Upscaler(Slow()), jobs, photos.parent / "out"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2 and not reports[0].failed and not reports[1].failed
    assert sum(report.done for report in reports) == sum(len(report.kept) for report in reports) == 23
    assert all(len(numbers) == 1 for numbers in inodes.values()), "a file was replaced"
    assert len(list((photos.parent / "out").iterdir())) == 23


def test_what_a_killed_run_left_is_removed_by_the_next(photos: Path) -> None:
    def killed() -> None:
        def fail(path: str, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        os.link = fail  # the last step: the temporary file is whole
        upscale(photos, Doubling())

    assert in_child(killed)[0] == -signal.SIGKILL
    (left,) = (photos.parent / "out").iterdir()
    assert left.name.startswith(".ssiu-")
    assert upscale(photos, Doubling()).done == 3
    assert sorted(path.name for path in (photos.parent / "out").iterdir()) == ["a.png", "b.png", "c.png"]


# ---------------------------------------------------------------- what is said


def test_the_command_says_where_it_wrote(command, photos: Path) -> None:
    output = photos.parent / "out"
    assert f"3 upscaled into {output}: " in command(photos, "--output", output)[1]
    assert f"1 upscaled into {output}/a.webp: " in command(photos / "a.png", "--output", output, "--format", "webp")[1]
    assert f"1 upscaled into {output}.tif: " in command(photos / "a.png", "--output", f"{output}.tif")[1]
    assert "0 upscaled: 0.00 megapixels" in command(photos, "--output", output)[1]


def test_progress_ends_at_its_total_and_never_passes_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    class Seen(Progress):
        def update(self, n: float = 1) -> bool | None:
            updated = super().update(n)
            bars.append((self.n, self.total))
            return updated

    monkeypatch.setattr(batch, "Progress", Seen)
    save_image(photos / "0.png", noise(3, np.uint8, 11, 19))  # sums of megapixels pass the total with these sizes
    assert upscale(photos, Doubling()).done == 4
    assert bars[-1][0] == bars[-1][1] and all(done <= total for done, total in bars)


# ---------------------------------------------------------------- metadata


def test_what_outputs_cannot_hold_is_said_once_for_all_files(command, photos: Path) -> None:
    for name in ("a", "b", "c"):
        (photos / f"{name}.png").write_bytes(described_png())
    code, out, err = command(photos, "--output", photos.parent / "out", "--format", "webp")
    assert code == 0 and not err
    lines = [line for line in out.splitlines() if line.startswith("left out: ")]
    some = f"({photos}/a.png and 2 more)"
    assert lines == [f"left out: {what}, which WEBP cannot hold {some}" for what in ("IPTC", "PNG text")]
    code, out, _ = command(photos, "--output", photos.parent / "bare", "--format", "webp", "--no-metadata")
    assert code == 0 and "left out" not in out
    with Image.open(photos.parent / "bare/a.webp") as image:
        assert "exif" not in image.info and "xmp" not in image.info
    assert command(photos, "--output", photos.parent / "png")[1].count("left out") == 0

"""Loading of training patches and making of LR images, on images of the size that DF2K has.

With --images of a large set: how soon training on it starts, and what it costs to decode images as they are visited.
Figures per core are per second of CPU time, so they hold on a busy machine too. Files are in the page cache.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from ssiu.bench.large_sets import start_table, visits_table
from ssiu.bench.options import at_least
from ssiu.data.cache import ImageCache
from ssiu.data.pairs import LARGE_SET, Pairs, find_pairs
from ssiu.data.patches import PatchStream, orient
from ssiu.data.prepare import make_pairs
from ssiu.data.training_set import TrainingSet
from ssiu.images.bicubic import make_lr
from ssiu.images.decoding import DecodedImage
from ssiu.images.encoding import encode
from ssiu.images.io import decode_rgb, read_rgb, save_image
from ssiu.report.tables import ABSENT, Cell, Number, Table

SIZE = (1356, 2040)  # of most DF2K images
DF2K_IMAGES = 3450
DISTINCT = 8  # images of a large set; the others are links to them
LEAST_SECONDS = 0.5  # of CPU time that a measurement takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4), help="of the patches; default 4")
    parser.add_argument("--patch-size", type=at_least(1), default=256, help="HR side; default 256")
    parser.add_argument("--batch-size", type=at_least(1), default=40, help="default 40")
    parser.add_argument(
        "--threads", type=at_least(1), nargs="+", default=[1, 2], help="numbers of loader workers; default 1 2"
    )
    parser.add_argument("--images", type=at_least(1), default=8, help="a large set, such as 100000, or; default 8")
    parser.add_argument("--samples", type=at_least(1), default=400, help="patches per measurement; default 400")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Measures in a temporary folder and returns the tables of loading and of LR making, or of a large set."""
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), arguments.images
        if images > LARGE_SET:
            small = _make_images(folder / "small", DISTINCT, arguments.scale, (arguments.patch_size,) * 2)
            usual = _make_images(folder / "usual", DISTINCT, arguments.scale)
            return [start_table(small, folder, arguments), visits_table(usual, folder, arguments)]
        pairs = _make_images(folder, images, arguments.scale)
        return [_loading(pairs, folder, arguments), _lr_making(pairs[0].hr)]


def _make_images(folder: Path, count: int, scale: int, size: tuple[int, int] | None = None) -> Pairs:
    """Noise at all scales, which PNG compresses about as well as photographs, with its LR images."""
    rng = np.random.default_rng(0)
    size = size or SIZE
    (folder / "source").mkdir(parents=True)
    for number in range(count):
        image = np.full((*size, 3), 128, np.float32)
        for side, contrast in ((8, 40), (64, 20), (512, 10), (2040, 3)):
            noise = rng.standard_normal((side, side, 3), dtype=np.float32) * contrast
            image += cv2.resize(noise, size[::-1], interpolation=cv2.INTER_LINEAR)
        save_image(folder / f"source/{number}.png", np.clip(image, 0, 255).astype(np.uint8))
    make_pairs(folder / "source", folder / "set", [scale])
    return find_pairs(folder, "set", scale)


def _cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call, the fastest of several."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < LEAST_SECONDS:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _loading(pairs: Pairs, folder: Path, arguments: argparse.Namespace) -> Table:
    scale, side, samples = arguments.scale, arguments.patch_size, arguments.samples
    images = TrainingSet("noise", pairs, scale, ImageCache(folder / "cache"), side)
    stream = PatchStream([images], scale, side, arguments.batch_size, data_repeat=1000)

    def from_whole(lr: np.ndarray, hr: np.ndarray, g: int) -> object:
        """The same crop and orientation from images (3, H, W), then float tensors in [0, 1]."""
        top, left, orientation = stream.place(g)
        lr = lr[:, top : top + side // scale, left : left + side // scale]
        hr = hr[:, top * scale : top * scale + side, left * scale : left * scale + side]
        patches = (np.ascontiguousarray(orient(patch, orientation)) for patch in (lr, hr))
        return [torch.from_numpy(patch).float() / 255 for patch in patches]

    def from_png(g: int) -> object:
        lr, hr = (read_rgb(source.path).transpose(2, 0, 1) for source in images.sources(stream.image_index(g)))
        return from_whole(lr, hr, g)

    def from_npy(g: int) -> object:
        index = 2 * stream.image_index(g)
        lr, hr = (np.load(image.path) for image in images.prepared[index : index + 2])
        return from_whole(lr, hr, g)

    variants = {
        "decode both PNG files, float": from_png,
        "read both whole .npy files, float": from_npy,
        "memory-mapped crops, uint8": stream.sample,
    }
    rates = {}
    for name, sample in variants.items():
        count = max(samples // 20, 4) if "PNG" in name else samples
        rates[name] = count / _cpu_seconds(lambda: [sample(g) for g in range(count)])  # noqa: B023  (called at once)
    for threads in arguments.threads:
        rates[f"the same, {threads} loader workers (wall clock)"] = _wall_clock_rate(stream, threads, samples)
    base = rates["read both whole .npy files, float"]
    rows: list[list[Cell]] = [
        [name, Number(rate, ",.0f"), Number(rate / base, ".2f"), Number(1000 * arguments.batch_size / rate, ".1f")]
        for name, rate in rates.items()
    ]
    header = ["a sample is made by", "samples/s", "times faster", f"ms to feed a step of {arguments.batch_size}"]
    title = f"Loading x{scale} patches of {side} from {len(pairs)} images of {SIZE[1]}x{SIZE[0]}, one core"
    return Table(title, header, rows)


def _wall_clock_rate(stream: PatchStream, threads: int, samples: int) -> float:
    """Samples per second that the loader delivers once its workers run."""
    batches = samples // stream.batch_size + 1
    warm_up = 4 * threads
    iterator = iter(stream.loader(0, warm_up + batches, threads=threads))
    for _ in range(warm_up):
        next(iterator)
    start = time.perf_counter()
    count = sum(len(hr) for _, hr in iterator)
    return count / (time.perf_counter() - start)


def _lr_making(path: Path) -> Table:
    content = path.read_bytes()
    hr = decode_rgb(path, content)
    megapixels = hr.shape[0] * hr.shape[1] / 1e6
    decoding = _cpu_seconds(lambda: decode_rgb(path, content))
    rows: list[list[Cell]] = [["decode the HR image", Number(megapixels / decoding, ".1f"), ABSENT]]
    total = decoding
    for scale in (2, 3, 4):
        resizing = _cpu_seconds(lambda: make_lr(hr, scale))  # noqa: B023  (called at once)
        lr = make_lr(hr, scale)
        encoding = _cpu_seconds(lambda: list(encode(DecodedImage(lr), ".png")))  # noqa: B023
        total += resizing + encoding
        rows.append([f"imresize to x{scale}", Number(megapixels / resizing, ".1f"), ABSENT])
        rows.append([f"encode x{scale}", Number(megapixels / encoding, ".1f"), ABSENT])
    minutes = DF2K_IMAGES * total / 60
    rows.append(["all of it", Number(megapixels / total, ".1f"), Number(minutes, ".1f")])
    return Table("Making LR images", ["step", "HR megapixels/s per core", "core minutes for DF2K x2 + x3 + x4"], rows)

"""Training on a large set: how soon it starts, what a loader worker holds, and what visits of its images cost.

The names are links to a few images that are made here.
"""

import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from ssiu.config.load import make_config
from ssiu.data.cache import ImageCache
from ssiu.data.pairs import Pairs, find_pairs
from ssiu.data.patches import PatchStream
from ssiu.data.training_data import build_stream
from ssiu.data.training_set import TrainingSet
from ssiu.report.tables import Cell, Number, Table


class _Large(Pairs):
    """Pairs of any number that are decoded when they are visited."""

    large = True


def link_set(of: Pairs, root: Path, count: int, scale: int) -> None:
    """A set in ``root`` of ``count`` pairs, hard links to the images of the few pairs ``of``."""
    hr, lr = root / "HR", root / f"LR_bicubic/X{scale}"
    for folder in (hr, lr):
        folder.mkdir(parents=True)
    for number in range(count):
        pair = of[number % len(of)]
        assert pair.lr, "it was made"
        os.link(pair.hr.resolve(), hr / f"{number:06}.png")
        os.link(pair.lr, lr / f"{number:06}x{scale}.png")


def start_table(of: Pairs, folder: Path, arguments: Namespace) -> Table:
    """Seconds until the first batch of ``arguments.images`` images is there, and what a worker then holds."""
    link_set(of, folder / "many", arguments.images, arguments.scale)
    keys = {"data_path": str(folder), "training_dataset": "many", "cache_dir": str(folder / "start")}
    keys |= {"scale": arguments.scale, "patch_size": arguments.patch_size, "batch_size": arguments.batch_size}
    rows: list[list[Cell]] = []
    for seed, index in enumerate(("no", "yes")):  # other seeds, so that the first batch is of other images
        begin = time.perf_counter()
        stream = build_stream(make_config({**keys, "seed": seed}))
        opened = time.perf_counter()
        batches = iter(stream.loader(0, 10**6, threads=arguments.threads[-1]))
        next(batches)
        first = time.perf_counter()
        for _ in range(arguments.samples // arguments.batch_size):
            next(batches)
        held = _held_by_a_worker() / 2**20
        batches.close()
        rows.append([index, Number(opened - begin, ".1f"), Number(first - begin, ".1f"), Number(held, ".0f")])
    header = ["index", "s to open the set", "s to the first batch", "MiB of a worker's own"]
    title = f"The start on {arguments.images:,} images, {arguments.threads[-1]} loader workers, wall clock"
    return Table(title, header, rows)


def _held_by_a_worker() -> float:
    """Bytes that the largest child of this process shares with no other; NaN where the system does not say."""
    try:
        lines = [
            line.split()
            for child in multiprocessing.active_children()
            for line in Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
        ]
    except OSError:
        return float("nan")
    return max((1024.0 * int(words[1]) for words in lines if words[0] == "Private_Dirty:"), default=float("nan"))


def visits_table(of: Pairs, folder: Path, arguments: Namespace) -> Table:
    """What a sample costs where its images are decoded when they are visited, and where all were before."""
    scale, samples = arguments.scale, arguments.samples
    link_set(of, folder / "some", samples, scale)
    found = find_pairs(folder, "some", scale)
    visited = _Large(**vars(found))
    whole, half = (share * 3 * int(found.sizes.prod(axis=2).sum()) for share in (1, 0.5))

    def stream_of(pairs: Pairs, name: str, limit: float | None = None) -> PatchStream:
        cache = ImageCache(folder / name, None if limit is None else int(limit))
        images = TrainingSet("noise", pairs, scale, cache, arguments.patch_size)
        return PatchStream([images], scale, arguments.patch_size, arguments.batch_size)

    first = stream_of(visited, "cache")
    rates = {"first visit: decoded into the cache": _rates(first.sample, samples)}
    rates["visited again by the same process"] = _rates(first.sample, samples)
    rates["visited again by another process or run"] = _rates(stream_of(visited, "cache").sample, samples)
    rates["all decoded before the run"] = _rates(stream_of(found, "cache").sample, samples)
    rates["cache_gb: 0, decoded each time"] = _rates(stream_of(visited, "cache", 0).sample, samples)
    for name, limit in (("all fit", 1.1 * whole), ("half fit", half)):
        bounded = stream_of(visited, name, limit)
        rates[f"cache_gb where {name}: first visit"] = _rates(bounded.sample, samples)
        rates[f"cache_gb where {name}: visited again"] = _rates(lambda g: bounded.sample(samples + g), samples)  # noqa: B023
    base = rates["all decoded before the run"][0]
    rows: list[list[Cell]] = [
        [name, Number(cpu, ",.0f"), Number(base / cpu, ".1f"), Number(wall, ",.0f")]
        for name, (cpu, wall) in rates.items()
    ]
    height, width = found[0].hr_size
    header = ["a visit", "samples/s of CPU time", "times as long as all before", "samples/s by the clock"]
    return Table(f"Visits of {samples} images of {width}x{height}, each once, one process", header, rows)


def _rates(sample: Callable[[int], object], samples: int) -> tuple[float, float]:
    """Samples a second of CPU time and of wall clock, each made once."""
    cpu, wall = time.process_time(), time.perf_counter()
    for g in range(samples):
        sample(g)
    return samples / (time.process_time() - cpu), samples / (time.perf_counter() - wall)

"""Variants timed side by side: in turns, in one process, after a warm-up, so that a busy moment hits all alike."""

import ctypes
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ssiu.progress import Progress
from ssiu.report.tables import Cell, Number, Table

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Result:
    """Seconds of every turn, and bytes that a call needed at most beyond what was held before (None: not known)."""

    seconds: list[float]
    memory: int | None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def synchronise(device: torch.device) -> None:
    """Waits for what was given to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(variants: Mapping[str, Callable[[], object]], turns: int, device: torch.device) -> dict[str, Result]:
    """Calls every variant twice, to warm up and for its memory, then ``turns`` times in turn."""
    memory = {}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with Progress(total=len(variants) * (turns + 1), desc="measuring", unit="calls", leave=False) as bar:
        for name, variant in variants.items():
            bar.set_postfix_str(f"{name}, warming up")
            variant()
            memory[name] = memory_of(variant, device)
            bar.update()
        for _ in range(turns):
            for name, variant in variants.items():
                bar.set_postfix_str(name)
                synchronise(device)
                start = time.perf_counter()
                variant()
                synchronise(device)
                seconds[name].append(time.perf_counter() - start)
                bar.update()
    return {name: Result(values, memory[name]) for name, values in seconds.items()}


def memory_of(work: Callable[[], object], device: torch.device) -> int | None:
    """Peak bytes that ``work()`` needs: allocated on a GPU, resident on a CPU under Linux, elsewhere None."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not os.access(PROCESS / "clear_refs", os.W_OK):
        work()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again without being seen
    (PROCESS / "clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    status = (PROCESS / "status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


def _best(work: Callable[[], object], device: torch.device) -> float:
    """The least seconds of some calls: ten, or as many as half a second allows where a CPU only emulates bf16."""
    seconds: list[float] = []
    while len(seconds) < 10 and sum(seconds) < 0.5:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@dataclass(frozen=True)
class Machine:
    """What the machine does at best: FLOP/s of a large matrix product, bytes/s that a copy reads and writes."""

    fp32: float
    bf16: float
    copy: float

    @classmethod
    def measured(cls, device: torch.device) -> "Machine":
        side = 4096 if device.type == "cuda" else 1024
        a = torch.randn(side, side, device=device)
        b = a.bfloat16()
        source, target = torch.ones(2, 2**26, device=device)  # 256 MiB each, more than a cache holds
        work = {"fp32": lambda: a @ a, "bf16": lambda: b @ b, "copy": lambda: target.copy_(source)}
        best = {name: _best(each, device) for name, each in work.items()}
        flop = 2 * side**3
        return cls(flop / best["fp32"], flop / best["bf16"], 2 * source.nbytes / best["copy"])

    def note(self) -> str:
        """One line for below a table."""
        return (
            f"this machine: {self.fp32 / 1e9:.0f} GFLOP/s in fp32, {self.bf16 / 1e9:.0f} in bf16 (matrix product), "
            f"{self.copy / 1e9:.0f} GB/s read and written by a copy"
        )


def race_table(title: str, results: Mapping[str, Result], flop: float, machine: Machine, pixels: int) -> Table:
    """Median; ratio to the first variant turn by turn with its quartiles; multiple of the compute limit; memory.

    The limit is what ``flop`` takes at the machine's fp32 rate, for every variant. ``pixels``: of LR, a call.
    """
    base = next(iter(results.values())).seconds
    rows: list[list[Cell]] = []
    for name, result in results.items():
        ratios = sorted(first / own for first, own in zip(base, result.seconds, strict=True))
        quartiles = [ratios[len(ratios) // 4], ratios[-(len(ratios) // 4) - 1]]
        figures = [statistics.median(ratios), *quartiles, result.median * machine.fp32 / flop]
        times = Number(1000 * result.median, ".1f"), Number(1e6 * result.median / pixels, ".2f")
        memory = Number(math.nan if result.memory is None else result.memory / 2**20, ".0f")
        rows.append([name, *times, *(Number(figure, ".2f") for figure in figures), memory])
    header = ["variant", "median ms", "us/LR pixel", "times faster", "from", "to", "x limit", "peak MiB"]
    return Table(title, header, rows, (machine.note(),))

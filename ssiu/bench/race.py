"""Contestants timed side by side: in turns, in one process, after a warm-up, so that a busy moment hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ssiu.report.tables import Table


@dataclass(frozen=True)
class Result:
    """Seconds of every turn."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def synchronise(device: torch.device) -> None:
    """Waits for what was given to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(contestants: Mapping[str, Callable[[], object]], turns: int, device: torch.device) -> dict[str, Result]:
    """Calls every contestant twice to warm up, then ``turns`` times in turn."""
    for contestant in contestants.values():
        contestant()
        contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, contestant in contestants.items():
            synchronise(device)
            start = time.perf_counter()
            contestant()
            synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: Result(values) for name, values in seconds.items()}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product, the best of several: the machine's own limit."""
    side = 4096 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    turns = race({"gemm": lambda: a @ a}, 10, device)["gemm"]
    return 2 * side**3 / min(turns.seconds)


def race_table(title: str, results: Mapping[str, Result], flop: float, limit: float) -> Table:
    """Median, ratio to the first contestant turn by turn with its quartiles, and multiple of the compute limit."""
    base = next(iter(results.values())).seconds
    rows = []
    for name, result in results.items():
        ratios = sorted(first / own for first, own in zip(base, result.seconds, strict=True))
        quartiles = [ratios[len(ratios) // 4], ratios[-(len(ratios) // 4) - 1]]
        spread = f"{statistics.median(ratios):.2f} ({quartiles[0]:.2f} to {quartiles[1]:.2f})"
        rows.append([name, f"{1000 * result.median:.1f}", spread, f"{result.median * limit / flop:.2f}"])
    return Table(title, ["contestant", "median ms", "times faster (quartiles)", "x limit"], rows)

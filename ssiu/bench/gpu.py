"""Everything that only a GPU can show, in minutes: what it computes, how fast, in how much memory.

The most important comes first, and every figure is in --output the moment it is known. What a deadline or an error left
out is done by the same command later. With --toy it runs anywhere, on networks too small to say anything.
"""

import argparse
import gc
import json
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssiu.bench.gpu_checks import CHECKS, PSNR_SCALES
from ssiu.bench.gpu_lab import Lab
from ssiu.bench.options import at_least
from ssiu.data.pairs import find_pairs
from ssiu.device import describe, select_device, set_arithmetic
from ssiu.errors import ConfigError, OutputError, first_names
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.tables import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=at_least(1), default=10, help="default 10; what is left is done next time")
    parser.add_argument(
        "--output", type=nonempty_path, default=Path("gpu.json"), metavar="FILE", help="default gpu.json"
    )
    parser.add_argument("--data-path", type=Path, metavar="DIR", help="with benchmark/Set5; default: photographs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default cuda")
    parser.add_argument("--toy", action="store_true", help="tiny networks: tries the commands, measures nothing")
    parser.add_argument("--only", metavar="TEXT", default="", help="checks whose name contains it")


def run(arguments: argparse.Namespace) -> list[Table]:
    """A table of all figures in ``--output``."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once; a check is deterministic
    device = select_device(arguments.device)
    set_arithmetic("fp32")
    machine = {"device": describe(device), "torch": torch.__version__, "python": platform.python_version()}
    checks = [check for check in CHECKS if arguments.only in check.name]
    if arguments.only and not checks:
        raise ConfigError(f"--only {arguments.only}: expected a part of {first_names(c.name for c in CHECKS)}")
    for scale in PSNR_SCALES if arguments.data_path else ():
        find_pairs(arguments.data_path, "Set5", scale)  # else it would be missed after minutes
    make_folder(arguments.output.absolute().parent)
    results = _begun(arguments.output, {**machine, "toy": arguments.toy})
    deadline = time.monotonic() + 60 * arguments.minutes
    late = []
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(device, arguments.toy, Path(folder), arguments.data_path)
        for check in checks:
            if "error" not in results["checks"].get(check.name, {"error": "not yet"}):
                continue
            left = deadline - time.monotonic()
            if left < (0 if arguments.toy else check.seconds):
                late.append(check.name)
                continue
            start = time.perf_counter()
            figures = _attempt(check.measure, lab, left)
            results["checks"][check.name] = {**figures, "seconds": round(time.perf_counter() - start, 1)}
            write_atomically(arguments.output, json.dumps(results, indent=1).encode())
            print(f"{check.name}: {_line(results['checks'][check.name])}", flush=True)
    rows = [[name, _line(found)] for name, found in results["checks"].items()]
    title = f"{machine['device']}, torch {machine['torch']}"
    notes = (f"no time was left for: {', '.join(late)}; the same command goes on",) if late else ()
    return [Table(title, ["check", "figures"], rows, notes)]


def _line(figures: dict[str, Any]) -> str:
    """One line; what the profiler lists stays in the file."""
    values = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in figures.items()}
    return ", ".join(f"{key} {value}" for key, value in values.items() if not isinstance(value, list))


def _begun(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call has found; OutputError (73) when that was on another machine or is not ours."""
    if not path.exists():
        return {**machine, "checks": {}}
    try:
        results = json.loads(path.read_bytes())
        same = {key: results[key] for key in machine} == machine and isinstance(results["checks"], dict)
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise OutputError(f"{path} holds figures of another machine or no figures at all; name another --output")
    return results


def _attempt(measure: Any, lab: Lab, seconds: float) -> dict[str, Any]:
    """The figures of a check, or why there are none: one that fails must not cost the others."""
    try:
        with _alarm(seconds):
            return measure(lab)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:1000]}
    finally:
        torch._dynamo.reset()
        set_arithmetic("fp32")
        gc.collect()
        if lab.device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not finished after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""Where and in which arithmetic the network runs."""

import contextlib
import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ssiu.config.schema import Config
from ssiu.errors import ConfigError, DeviceMemoryError, counted, first_line, is_out_of_memory
from ssiu.models.base import check_choice

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # asked for before its use

log = logging.getLogger("ssiu")

UNKNOWN_MEMORY = 2 * 2**30
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", "tf32", *AUTOCAST)


def select_device(kind: str, gpu_ids: Sequence[int] = (), local_rank: int | None = None) -> torch.device:
    """The device for the keys ``device`` and ``gpu_ids``; under torchrun each rank takes the GPU of its ``local_rank``.

    A GPU that is not there gives one warning, then the first GPU or the CPU; ``device: cuda`` without any is a
    ConfigError (78).
    """
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif kind != "cpu" and not getattr(torch, kind).is_available():
        raise ConfigError(f"key 'device': {kind} was requested but is not available; use device=auto or device=cpu")
    if kind != "cuda":
        if list(gpu_ids) not in ([], [0]):
            log.warning("gpu_ids %s: no such GPU here, using the %s", list(gpu_ids), kind)
        return torch.device(kind)
    device = torch.device("cuda", _gpu_index(gpu_ids, local_rank))
    torch.cuda.set_device(device)  # else pinned memory and libraries would open a context on the first GPU as well
    return device


def _gpu_index(gpu_ids: Sequence[int], local_rank: int | None) -> int:
    if local_rank is not None:
        return local_rank % torch.cuda.device_count()
    ids = list(gpu_ids) or [0]
    if len(ids) > 1:
        log.warning(
            "gpu_ids %s: one process uses one GPU, taking the first; for all of them: "
            "torchrun --nproc_per_node=%d train.py --config ...", ids, len(ids)
        )  # fmt: skip
    index = ids[0]
    if index >= torch.cuda.device_count():
        log.warning("gpu_ids %s: there are %d GPUs here, using the first", ids, torch.cuda.device_count())
        index = 0
    return index


def set_arithmetic(precision: str, deterministic: bool = False) -> None:
    """fp32 switches TF32 off, the other precisions on; ``deterministic`` allows only repeatable algorithms."""
    tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False  # see `tuned_convolutions`
    torch.backends.cuda.enable_cudnn_sdp(False)  # it makes a plan for every number of windows, so for every image size
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # a debugging aid that writes all memory once more; mypy does not see a module's properties
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def warn_of_emulation(device: torch.device, precision: str) -> None:
    """One warning where a CPU has no instructions for ``precision``: it then takes tens of times as long as fp32."""
    native = precision == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if device.type == "cpu" and precision in AUTOCAST and not native:
        log.warning("this CPU only emulates %s, which is many times slower: use precision=fp32", precision)


def seed_draws(device: torch.device, *numbers: int) -> None:
    """What torch draws next on the host and on ``device`` depends on these ``numbers`` alone."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed is slow: it asks for every kind of device
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextlib.contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Lets cuDNN race its algorithms: once for each size it meets, so only where sizes stay the same."""
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision for bf16 and fp16, nothing for fp32 and tf32."""
    dtype = autocast_type(precision)
    return torch.autocast(device.type, dtype=dtype) if dtype else contextlib.nullcontext()


def autocast_type(precision: str) -> torch.dtype | None:
    """What bf16 and fp16 compute in, None for fp32 and tf32. Raises ConfigError (78) for what is no precision."""
    check_choice("precision", precision, PRECISIONS)
    return AUTOCAST.get(precision)


def peak_memory(device: torch.device) -> int:
    """Largest memory so far in bytes: allocated on a GPU, resident on the CPU; 0 on Windows, which does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that nobody uses, and those that torch holds there for its own next tensors.

    Else bytes of RAM that Linux calls available, within the limits of this process's control groups (containers, Slurm
    jobs), shared with the other processes that torchrun has here; a system that does not tell is taken to have
    `UNKNOWN_MEMORY`.
    """
    if device.type != "cuda":
        kilobytes = _number_in(PROC / "meminfo", r"MemAvailable:\s*(\d+)")
        free = min([UNKNOWN_MEMORY if kilobytes is None else 1024 * kilobytes, *_memory_limits()])
        return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def keep_freed_memory() -> None:
    """For programs that train or upscale on a CPU: glibc keeps what is freed for the next maps.

    Else it gives large blocks back, and Linux clears every page of the next one. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        set_option = ctypes.CDLL(None).mallopt
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, -1)


def _memory_limits() -> Iterator[int]:
    """Bytes that the control groups of this process may have, those of either version of them."""
    try:
        groups = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers in ("", "memory"):
            group = CGROUPS / controllers / path.lstrip("/")
            for folder in (group, *group.parents):
                for name in ("memory.max", "memory.limit_in_bytes"):
                    if (limit := _number_in(folder / name)) is not None:
                        yield limit


def _number_in(file: Path, pattern: str = r"(\d+)") -> int | None:
    """The number that a ``file`` of the system holds where ``pattern`` says; None where there is none."""
    try:
        found = re.search(pattern, file.read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def describe(device: torch.device) -> str:
    """One phrase for the log."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"


@contextlib.contextmanager
def memory_advice(config: Config) -> Iterator[None]:
    """Turns running out of memory into DeviceMemoryError (69) with the keys to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"out of memory with batch_size {config.batch_size} and patch_size {config.patch_size} "
            f"({first_line(error)[:120]}); lower batch_size (and raise accumulate), "
            "or use precision=bf16"
        ) from error

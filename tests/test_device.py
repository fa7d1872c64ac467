"""Devices: which one, its arithmetic, its memory, and what running out of it means."""

import subprocess
import sys

import pytest
import torch
from tiny_run import tiny_config

from ssiu import device
from ssiu.errors import DeviceMemoryError
from ssiu.inference import tiles
from ssiu.inference.prepare import PreparedNetwork
from ssiu.inference.tiles import super_resolve
from ssiu.models import layers

GIB = 2**30


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, as far as asking for them goes; the one that was made current last."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize(
    ("gpu_ids", "local_rank", "index"), [((), None, 0), ((1,), None, 1), ((7,), None, 0), ((), 1, 1), ((0,), 3, 1)]
)
def test_the_chosen_gpu_is_made_the_current_one(gpus, gpu_ids, local_rank, index):
    chosen = device.select_device("auto", gpu_ids, local_rank)
    assert chosen == torch.device("cuda", index)
    assert gpus == [chosen]


def test_the_cpu_makes_no_gpu_current(gpus):
    assert device.select_device("cpu", [1]) == torch.device("cpu")
    assert gpus == []


class CompilerError(RuntimeError):
    """As Dynamo's and Inductor's."""


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("no kernel of this operator for this device"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RecursionError("maximum recursion depth exceeded"),
        CompilerError("backend 'inductor' raised"),
        RuntimeError("shape mismatch"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_runtime_errors_are_not_called_out_of_memory(error, tmp_path):
    with pytest.raises(type(error)) as caught, device.memory_advice(tiny_config(tmp_path)):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("tried to allocate 2 GiB"),
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("input tensor must fit into 32-bit index math"),
    ],
    ids=str,
)
def test_running_out_of_memory_is_known_by_type_or_by_words(error, tmp_path):
    with pytest.raises(DeviceMemoryError), device.memory_advice(tiny_config(tmp_path)):
        raise error


def test_cudnn_is_tuned_only_around_steps_of_one_size():
    device.set_arithmetic("tf32")
    assert not torch.backends.cudnn.benchmark and not torch.backends.cuda.cudnn_sdp_enabled()
    with pytest.raises(ZeroDivisionError), device.tuned_convolutions():
        assert torch.backends.cudnn.benchmark
        raise ZeroDivisionError
    assert not torch.backends.cudnn.benchmark
    device.set_arithmetic("fp32", deterministic=True)
    with device.tuned_convolutions():
        assert not torch.backends.cudnn.benchmark
    assert not torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("native", [True, False])
def test_a_precision_that_the_cpu_only_emulates_is_named_once(precision, native, monkeypatch, caplog):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    device.warn_of_emulation(torch.device("cpu"), precision)
    device.warn_of_emulation(torch.device("cuda"), precision)
    slow = precision == "fp16" or (precision == "bf16" and not native)
    assert [f"only emulates {precision}" in line for line in caplog.messages] == [True] * slow


@pytest.mark.parametrize(("free", "whole"), [(100 * GIB, True), (1 * GIB, False)])
def test_auto_takes_what_a_gpu_has_free(free, whole, monkeypatch):
    """An image of 600x500 needs 6 GB."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - GIB // 2, 141 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB // 2)
    assert device.free_memory(torch.device("cuda", 0)) == free
    calls = []

    def run(lr):
        calls.append(lr.shape[2] * lr.shape[3])
        return lr

    super_resolve(PreparedNetwork(run, device=torch.device("cuda", 0)), torch.zeros(1, 3, 500, 600), "auto")
    assert (len(calls) == 1) == whole
    assert max(calls) * PreparedNetwork.bytes_per_lr_pixel <= free


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/job/step\n", {"job/memory.max": "3000000\n", "job/step/memory.max": "max\n"}, 3_000_000),
        ("5:cpu:/x\n4:memory:/on/the/host\n", {"memory/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        ("0::/\n", {"memory.max": "9000000\n"}, 4_096_000),
        ("0::/\n", {}, 4_096_000),
    ],
)
def test_free_memory_without_a_gpu_is_what_linux_and_the_control_group_leave(
    groups, limits, expected, tmp_path, monkeypatch
):
    files = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n", "proc/self/cgroup": groups}
    for name, text in {**files, **{f"cgroup/{name}": text for name, text in limits.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(device, "PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "CGROUPS", tmp_path / "cgroup")
    assert device.free_memory(torch.device("cpu")) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert device.free_memory(torch.device("cpu")) == expected // 4
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(device, "PROC", tmp_path / "not Linux")
    assert device.free_memory(torch.device("cpu")) == device.UNKNOWN_MEMORY


def test_freed_memory_is_kept_for_the_next_maps():
    script = """
import ctypes, sys, torch
from ssiu.device import keep_freed_memory

class MallInfo(ctypes.Structure):  # of glibc's malloc.h; the kernel's count of page faults is 0 on some machines
    _fields_ = [
        (name, ctypes.c_int)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]

mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = MallInfo
sys.argv[1:] and keep_freed_memory()
before = mallinfo().fordblks
maps = [torch.ones(2**22) for _ in range(8)]
del maps
print(mallinfo().fordblks - before)
"""
    kept = [
        int(subprocess.run([sys.executable, "-c", script, *keep], capture_output=True, text=True, check=True).stdout)
        for keep in ([], ["keep"])
    ]
    mapped = 8 * 4 * 2**22  # bytes
    assert kept[0] < 0.1 * mapped
    assert kept[1] > 0.9 * mapped


def test_auto_stays_below_what_cudas_padding_can_count(monkeypatch):
    monkeypatch.setattr(tiles, "free_memory", lambda device: 10**15)
    calls = []

    def run(lr):
        calls.append(lr)
        return lr

    super_resolve(
        PreparedNetwork(run, device=torch.device("cuda", 0)), torch.zeros(1, 3, 1, 1).expand(1, 3, 2048, 1100), "auto"
    )
    assert len(calls) > 1
    assert all(64 * 16 * (call.shape[2] + 2) * (call.shape[3] + 2) < 2**31 for call in calls)


def test_a_map_too_large_for_32_bits_is_taken_in_tiles(caplog):
    def run(lr):
        if lr.shape[-1] > 200:
            raise RuntimeError("reflection_pad2d: input tensor must fit into 32-bit index math")
        return layers.upsample_bilinear(lr, 2, align_corners=False)

    assert super_resolve(PreparedNetwork(run), torch.zeros(1, 3, 210, 210), "auto").shape == (1, 3, 420, 420)
    assert "continuing with tiles" in caplog.text
    with pytest.raises(DeviceMemoryError, match="tile=auto"):
        super_resolve(PreparedNetwork(run), torch.zeros(1, 3, 210, 210), 0)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_where_the_system_counts_kilobytes_and_where_it_counts_bytes(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    before = device.resource.getrusage(device.resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", platform)
    assert before * unit <= device.peak_memory(torch.device("cpu")) <= 2 * before * unit


def test_nothing_is_missing_where_there_is_no_module_resource() -> None:
    code = (
        "import sys; sys.modules['resource'] = None; import torch; from ssiu.device import peak_memory; "
        "print(peak_memory(torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "0\n", done.stderr

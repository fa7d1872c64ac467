"""What differs between systems: memory counted in other units, and modules that are not everywhere."""

import subprocess
import sys

import pytest
import torch

from ssiu import device


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

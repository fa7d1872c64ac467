"""Races: who is faster, by how much, and how much memory it takes."""

import subprocess
import sys
import time

import pytest
import torch
from printed import printed_rows

from ssiu.bench.timing import Machine, Result, race, race_table

CPU = torch.device("cpu")


def test_every_variant_has_a_time_for_every_turn_and_the_slower_one_loses():
    calls = []

    def sleeping(name: str, seconds: float):
        return lambda: (calls.append(name), time.sleep(seconds))

    results = race({"slow": sleeping("slow", 0.02), "fast": sleeping("fast", 0.002)}, 3, CPU)
    assert calls == ["slow", "slow", "fast", "fast", *["slow", "fast"] * 3]
    assert [len(result.seconds) for result in results.values()] == [3, 3]
    assert results["slow"].median >= 0.02 > results["fast"].median


MEMORY = """
import torch
from ssiu.bench.timing import memory_of

def work():
    torch.ones(2**23)  # 32 MiB, gone at once
    torch.ones(2**24)  # 64 MiB

held = torch.ones(2**25)  # 128 MiB that are not the call's
print(memory_of(work, torch.device("cpu")) / 2**20, held.sum().item() == 2**25)
"""


def test_memory_is_the_peak_of_the_call_and_not_what_was_there_before():
    # in a process of its own: a command that another test ran here would have told malloc to keep what is freed
    mebibytes, held = subprocess.run([sys.executable, "-c", MEMORY], stdout=subprocess.PIPE, check=True).stdout.split()
    assert float(mebibytes) == pytest.approx(64, abs=6) and held == b"True"


def test_a_row_holds_median_time_per_pixel_ratio_with_quartiles_limit_and_memory():
    results = {"base": Result([4.0, 6.0, 4.0, 4.0], 2**20), "new": Result([2.0, 2.0, 1.0, 2.0], None)}
    table = race_table("title", results, flop=1e9, machine=Machine(fp32=2e9, bf16=4e9, copy=1e10), pixels=1000)
    assert printed_rows(table) == [
        ["base", "4000.0", "4000.00", "1.00", "1.00", "1.00", "8.00", "1"],
        ["new", "2000.0", "2000.00", "2.50", "2.00", "3.00", "4.00", "-"],
    ]
    assert table.notes == (
        "this machine: 2 GFLOP/s in fp32, 4 in bf16 (matrix product), 10 GB/s read and written by a copy",
    )

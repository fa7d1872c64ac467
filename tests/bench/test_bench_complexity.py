"""Counted parameters and MACs against the paper's and against a convolution counted by hand."""

from pathlib import Path

import pytest
from torch import nn

from ssiu.bench.complexity import count_macs
from ssiu.cli import benchmark

ROOT = Path(__file__).parents[2]


def test_a_convolution_is_counted_as_its_products():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1))
    assert count_macs(model, 10, 20) == {"": 200 * (3 * 8 * 9 + 8 * 3), "0": 200 * 3 * 8 * 9, "1": 200 * 8 * 3}


@pytest.mark.parametrize(
    ("config", "parameters", "gmacs"),
    [
        ("SSUFSR_light_x2", "777,827", 167.2), ("SSUFSR_light_x3", "798,627", 76.6),
        ("SSUFSR_light_x4", "794,467", 48.9), ("idsa_light_x2", "731,236", 169.5),
        ("idsa_light_x3", "739,891", 77.2), ("idsa_light_x4", "752,008", 44.6),
        ("ablations/table3_sam_moe", "788,707", 59.2), ("ablations/table3_esam_no_moe", "777,827", 47.9),
    ],
)  # fmt: skip
def test_the_papers_workload_has_the_known_totals(capsys, config, parameters, gmacs):
    benchmark.main(["complexity", "--config", str(ROOT / f"configs/{config}.yml")])
    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total[-2] == parameters
    assert float(total[-1]) == pytest.approx(gmacs, abs=0.06)


def test_kinds_of_modules_have_the_known_parameters(capsys):
    benchmark.main(["complexity", "--config", str(ROOT / "configs/SSUFSR_light_x4.yml")])
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["MSGM"][1:3] == ["36", f"{36 * 17_280:,}"]
    assert rows["ESAM"][1:3] == ["9", f"{9 * 13_088:,}"]
    assert rows["MoEFS"][1:3] == ["1", "16,640"]

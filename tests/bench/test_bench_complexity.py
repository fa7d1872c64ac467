"""Counted parameters and MACs against the paper's and against a convolution counted by hand."""

from pathlib import Path

import pytest
import torch
from external_networks import spandrel_network
from printed import printed_rows
from rlfn import RLFN
from torch import nn

from ssiu.bench.complexity import ntire_table
from ssiu.cli import benchmark
from ssiu.inference.complexity import count, count_macs
from ssiu.models.custom import CustomNetwork
from ssiu.weights.external import build_external

ROOT = Path(__file__).parents[2]


def test_a_convolution_is_counted_as_its_products():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1))
    assert count_macs(model, 10, 20) == {"": 200 * (3 * 8 * 9 + 8 * 3), "0": 200 * 3 * 8 * 9, "1": 200 * 8 * 3}


@pytest.mark.parametrize(
    ("config", "own", "parameters", "gmacs"),
    [
        ("SSUFSR_light_x2", (), "777,827", 167.2), ("SSUFSR_light_x3", (), "798,627", 76.6),
        ("SSUFSR_light_x4", (), "794,467", 48.9), ("idsa_light_x2", (), "733,403", 170.9),
        ("idsa_light_x3", (), "754,203", 79.9), ("idsa_light_x4", (), "750,043", 48.8),
        ("SSUFSR_light_x4", ["attention=dense"], "788,707", 59.2), ("SSUFSR_light_x4", ["moe=false"], "777,827", 47.9),
    ],
)  # fmt: skip
def test_the_papers_workload_has_the_known_totals(capsys, config, own, parameters, gmacs):
    benchmark.main(["complexity", "--config", str(ROOT / f"configs/{config}.yml"), *own])
    total = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("whole network"))
    assert total[3] == parameters
    assert float(total[4]) == pytest.approx(gmacs, abs=0.06)


def test_kinds_of_modules_have_the_known_parameters(capsys):
    benchmark.main(["complexity", "--config", str(ROOT / "configs/SSUFSR_light_x4.yml")])
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["MSGM"][1:3] == ["36", f"{36 * 17_280:,}"]
    assert rows["ESAM"][1:3] == ["9", f"{9 * 13_088:,}"]
    assert rows["MoEFS"][1:3] == ["1", "16,640"]


def test_activations_are_what_convolutions_put_out():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, stride=2))
    counts = count(model, 10, 20)
    assert counts.activations == {"": 50 * 8 + 200 * 3, "0": 50 * 8, "2": 200 * 3}
    assert counts.convolutions == 2
    twice = nn.Sequential(model[0], nn.Sequential(nn.Conv2d(8, 8, 1)))
    assert count(twice, 10, 20).activations == {"": 800, "0": 400, "1": 400, "1.0": 400}


def test_rlfn_has_the_figures_of_the_ntire_report():
    """NTIRE 2022 (arXiv 2205.05675), the winner's row: 0.317 M, 19.70 G, 80.05 M, 39 convolutions."""
    model = CustomNetwork(RLFN(), "rlfn:RLFN", 4, {})
    (row,) = printed_rows(ntire_table(model, torch.device("cpu"), 0))
    assert (row[0], row[1], row[3], row[4]) == ("RLFN x4", "0.317", "80.045", "39")
    assert float(row[2]) == pytest.approx(19.70, rel=0.003)  # they count sums and activation functions as well


@pytest.mark.parametrize(
    ("scale", "parameters", "flops", "activations"),
    [(2, 227.82, 51.53, 299.00), (3, 232.695, 23.42, 134.00), (4, 239.52, 13.56, 76.70)],
)
def test_safmn_has_the_figures_of_its_authors(scale, parameters, flops, activations):
    """As https://github.com/sunny2109/SAFMN prints them for an output of 1280x720."""
    model = build_external(spandrel_network("SAFMN")(dim=36, n_blocks=8, upscaling_factor=scale).state_dict(), "file")
    height, width = 720 // scale, 1280 // scale
    share = height * width
    height, width = model.padded_size(height, width)
    counts, share = count(model, height, width), share / (height * width)
    assert sum(p.numel() for p in model.parameters()) == round(1000 * parameters)
    assert share * counts.macs[""] / 1e9 == pytest.approx(flops, rel=0.005)
    assert share * counts.activations[""] / 1e6 == pytest.approx(activations, rel=0.005)


def test_an_expert_chosen_by_the_image_is_counted_on_an_image():
    class Choice(nn.Module):
        scale, size_multiple = 2, 1

        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)])

        def forward(self, lr):
            return self.experts[int(lr.sum().item() > 0)](lr)

    assert count_macs(Choice(), 4, 5)[""] == 20 * 9


def test_time_and_memory_are_measured_where_turns_are_asked_for(capsys):
    arguments = ["complexity", "n_feats=8", "num_heads=2", "n_blocks=3", "--size", "64", "64"]
    benchmark.main(arguments)
    assert capsys.readouterr().out.splitlines()[-2].split()[-2:] == ["-", "-"]
    benchmark.main([*arguments, "--turns", "1"])
    milliseconds, mebibytes = map(float, capsys.readouterr().out.splitlines()[-2].split()[-2:])
    assert milliseconds > 0 and mebibytes > 256 * 256 * 3 * 4 * 17 / 2**20  # at least the two images

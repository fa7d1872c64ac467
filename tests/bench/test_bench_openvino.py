"""OpenVINO, the rival of ``ssiu benchmark inference --onnx``: what is raced there computes the same network."""

from pathlib import Path

import pytest
import torch
from tiny import tiny

from ssiu.bench.openvino import openvino_networks
from ssiu.export.onnx import export_onnx


@pytest.mark.slow
def test_every_variant_gives_the_networks_output_of_every_size_and_tile(tmp_path: Path) -> None:
    network = tiny().eval()
    export_onnx(network, tmp_path / "x.onnx", tiles=True)
    networks = openvino_networks(tmp_path / "x.onnx", network.size_multiple)
    assert list(networks) == [f"OpenVINO{kind}, {shapes}" for kind in ("", " bf16") for shapes in ("dynamic", "static")]
    for height, width in ((32, 48), (19, 40)):
        lr = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        for offset in (None, torch.tensor([16, 32, 96, 128], dtype=torch.int32)):
            with torch.no_grad():
                expected = network(lr, offset)
            for name, run in networks.items():
                torch.testing.assert_close(run(lr, offset), expected, rtol=0, atol=0.03 if "bf16" in name else 1e-5)

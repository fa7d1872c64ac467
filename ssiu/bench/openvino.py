"""An ONNX file run by OpenVINO, to compare with; docs/experiments/performance.md says why `ssiu upscale` does not."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssiu.export.onnx import offset_or_whole
from ssiu.inference.prepare import PreparedNetwork


def openvino_networks(path: Path, size_multiple: int) -> dict[str, PreparedNetwork]:
    """The file of `export_onnx` in fp32 and bf16, for any size and for each size apart; none without the package."""
    try:
        import openvino
    except ImportError:
        return {}
    model = openvino.Core().read_model(path)
    tiles = len(model.inputs) > 1
    return {
        f"OpenVINO{name}, {shapes}": PreparedNetwork(
            OpenVinoNetwork(openvino, model, precision, static=shapes == "static"),
            size_multiple,
            takes_tile_offset=tiles,
        )
        for name, precision in (("", "f32"), (" bf16", "bf16"))
        for shapes in ("dynamic", "static")
    }


class OpenVinoNetwork:
    """LR (1, 3, H, W) to SR on the CPU, in ``precision`` f32 or bf16; ``static``: compiled once for every size."""

    def __init__(self, package: Any, model: Any, precision: str, static: bool):
        self.package, self.model, self.static = package, model, static
        self.options = {  # without the first it computes in bf16 wherever the processor can
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self.requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, lr: Tensor, tile_offset: Tensor | None = None) -> Tensor:
        inputs = {"lr": lr.numpy()}
        if len(self.model.inputs) > 1:
            inputs[self.model.inputs[1].any_name] = offset_or_whole(tile_offset, lr)
        size = tuple(lr.shape) if self.static else ()
        if size not in self.requests:
            model = self.model.clone()
            if self.static:
                model.reshape({name: array.shape for name, array in inputs.items()})
            self.requests[size] = self.package.compile_model(model, "CPU", self.options).create_infer_request()
        return torch.from_numpy(self.requests[size].infer(inputs)[0].copy())

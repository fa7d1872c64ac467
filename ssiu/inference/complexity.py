"""What a network computes, counted: multiply-accumulates (MACs), activations, convolutions.

Counted as MACs are convolutions, matrix products and attention, on the LR image as the network pads it; additions,
normalisations, activation functions and interpolation are not, as is usual. One MAC is two FLOPs.
"""

import contextlib
import copy
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssiu.errors import first_line
from ssiu.models.base import SRNetwork

log = logging.getLogger("ssiu")

PAPERS_SIZE = (720, 1280)  # height and width of the SR image that papers count for


@dataclass(frozen=True)
class Counts:
    """By the name of every module, "" for the whole: MACs; numbers put out by convolutions; calls of convolutions."""

    macs: dict[str, int]
    activations: dict[str, int]
    convolutions: int


def network_size(model: SRNetwork) -> tuple[int, int | None]:
    """Parameters, and MACs for an SR image of 1280x720, as papers count them.

    None where a network of the user's own cannot be counted, which is logged.
    """
    try:
        macs = count_macs(model, *(side // model.scale for side in PAPERS_SIZE))[""]
    except Exception as error:  # on tensors without data, a network of one's own may raise anything
        log.warning("multiply-accumulates are not counted: %s", first_line(error))
        macs = None
    return sum(parameter.numel() for parameter in model.parameters()), macs


def count_macs(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """`Counts.macs`."""
    return count(model, height, width).macs


def count(model: nn.Module, height: int, width: int) -> Counts:
    """What ``model`` computes for an LR image (1, 3, height, width), without data where the shapes alone decide."""
    try:
        return _count_pass(model, height, width, FakeTensorMode(allow_non_fake_inputs=True))  # no memory, no time
    except (DataDependentOutputException, DynamicOutputShapeException):  # it chooses experts by what it sees
        return _count_pass(model, height, width, contextlib.nullcontext())


@torch.no_grad()
def _count_pass(model: nn.Module, height: int, width: int, tensors: contextlib.AbstractContextManager) -> Counts:
    model = copy.deepcopy(model).cpu()  # some keep a mask or a mean of the pass, which has no data
    activations: Counter[str] = Counter()
    called: list[str] = []

    def note(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        called.append(name)
        for holder in holders(name):
            activations[holder] += output.numel()

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(partial(note, name))
    plain_attention = sdpa_kernel(SDPBackend.MATH)  # as matrix products, which the counter knows on every device
    with FlopCounterMode(display=False) as counter, plain_attention, tensors:
        model(torch.zeros(1, 3, height, width))
    root = type(model).__name__
    counts = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    macs = {name.removeprefix(root).removeprefix("."): macs for name, macs in counts.items() if name.startswith(root)}
    return Counts(macs, dict(activations), len(called))


def holders(name: str) -> Iterator[str]:
    """The names of all modules around and with ``name``: "", "a", "a.b" for "a.b"."""
    parts = name.split(".")
    for length in range(len(parts) + 1):
        yield ".".join(parts[:length])

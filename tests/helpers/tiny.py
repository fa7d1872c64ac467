"""Small networks and states, and what it means that two are the same."""

from typing import Any

import torch
from torch import Tensor, nn

from ssiu.models.ssiu import SSIU

Tensors = dict[str, Tensor]


def tiny(scale: int = 2, seed: int = 0, kind: type[nn.Module] = SSIU, **arguments: object) -> nn.Module:
    """A network with few channels and 3 stages."""
    torch.manual_seed(seed)
    return kind(**{"scale": scale, "n_feats": 8 if kind is SSIU else 16, "n_blocks": 3, **arguments})


def equal(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def make_state(step: int) -> dict[str, Any]:
    """A small state with every kind of value a checkpoint may hold."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(4, 3, generator=generator)
    return {
        "step": step,
        "model": {"weight": weight, "half": weight.bfloat16(), "transposed": weight.t(), "empty": torch.ones(0, 2)},
        "ema": None,
        "optimizer": {
            "state": {0: {"step": torch.tensor(float(step)), "exp_avg": weight * 2}, 1: {}},
            "param_groups": [{"lr": 1e-3 / 3, "betas": (0.9, 0.99), "fused": None, "amsgrad": False, "params": [0, 1]}],
        },
        "flags": [True, 1, 1.0, (), "é", torch.tensor([True, False])],
    }


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, types included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b

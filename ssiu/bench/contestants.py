"""Who races: the literal network, and which of the others take part."""

import runpy
from pathlib import Path

import torch
from torch import nn

from ssiu.errors import ConfigError
from ssiu.models import SSIU

LITERAL = Path(__file__).parents[2] / "tests" / "reference_ssiu.py"


def literal_network(model: nn.Module) -> nn.Module:
    """The network of tests/reference_ssiu.py with the weights of ``model``; ConfigError (78) where there is none."""
    if not _has_literal(model):
        raise ConfigError(f"--contestants: literal is SSIU's, in a clone; there is none of this {type(model).__name__}")
    literal = runpy.run_path(str(LITERAL))["LiteralSSIU"](**model.arguments())
    literal.load_state_dict(model.state_dict())
    return literal.to(next(model.parameters()).device).train(model.training)


def taking_part(asked: list[str] | None, known: list[str], model: nn.Module, device: torch.device) -> list[str]:
    """What was ``asked`` for, else all that are ``known`` and there; compiling for a CPU takes minutes: not unasked."""
    left_out = (() if _has_literal(model) else ("literal",)) + (("compiled",) if device.type == "cpu" else ())
    return asked or [name for name in known if not name.startswith(left_out)]


def _has_literal(model: nn.Module) -> bool:
    return isinstance(model, SSIU) and LITERAL.exists()

"""What is measured: the network of a config, the literal one, and which variants take part."""

import torch
from torch import nn

from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.inference.prepare import prepare
from ssiu.models import ANY, SSIU, build_model
from ssiu.models.base import SRNetwork
from ssiu.models.literal import LiteralSSIU
from ssiu.weights.load import load_configured


def network_of(config: Config) -> SRNetwork:
    """With random weights, which cost the same; a network that only a file knows, with its own."""
    return load_configured(config) if config.model == ANY else build_model(config)


def literal_network(model: nn.Module) -> nn.Module:
    """The literal SSIU with the weights of ``model``; ConfigError (78) where there is none."""
    if not isinstance(model, SSIU):
        raise ConfigError(f"--variants: literal is SSIU's, not for {model.architecture}")
    literal = LiteralSSIU(**model.arguments())
    literal.load_state_dict(model.state_dict())
    return literal.to(next(model.parameters()).device).train(model.training)


def taking_part(asked: list[str] | None, known: list[str], model: SRNetwork, device: torch.device) -> list[str]:
    """What was ``asked`` for, else all that are ``known`` and there; compiling for a CPU takes minutes: not unasked.

    Raises ConfigError (78) for a prepared network of a model that cannot be prepared.
    """
    unprepared = () if prepare(model).run is not model else ("prepared",)
    if asked and unprepared and any(name.startswith(unprepared) for name in asked):
        raise ConfigError(f"--variants: {model.architecture} has no prepare_for_inference, so no prepared form")
    left_out = (() if isinstance(model, SSIU) else ("literal",)) + (("compiled",) if device.type == "cpu" else ())
    return asked or [name for name in known if not name.startswith(left_out + unprepared)]

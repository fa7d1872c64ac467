"""The networks, found by the name a config gives them."""

from typing import Any

from torch import nn

from ssiu.models.ssiu import SSIU

MODELS: dict[str, type[nn.Module]] = {"SSIU": SSIU, "SSUFSR": SSIU}  # SSUFSR: SSIU's name in the released configs


def build_model(config: Any) -> nn.Module:
    """The network of ``config``, freshly initialised; raises ConfigError (78) when its keys do not fit together."""
    return MODELS[config.model].from_config(config)

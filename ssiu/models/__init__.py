"""The networks, found by the name a config gives them."""

from typing import Any

from torch import nn

from ssiu.models.idsa_net import IDSANet
from ssiu.models.ssiu import SSIU

MODELS: dict[str, type[nn.Module]] = {
    "SSIU": SSIU,
    "SSUFSR": SSIU,  # SSIU's name in the released configs
    "IDSANet": IDSANet,
}


def build_model(config: Any) -> nn.Module:
    """The network of ``config``, freshly initialised; raises ConfigError (78) when its keys do not fit together."""
    return MODELS[config.model].from_config(config)

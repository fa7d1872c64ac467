"""The networks, found by the name a config gives them."""

from typing import Any

from torch import nn

from ssiu.models.idsa_net import IDSANet
from ssiu.models.own import build_own_model
from ssiu.models.ssiu import SSIU

MODELS: dict[str, type[nn.Module]] = {
    "SSIU": SSIU,
    "SSUFSR": SSIU,  # SSIU's name in the released configs
    "IDSANet": IDSANet,
}


def class_name(model: str) -> str:
    """The class that the name of a model means; ``package.module:Class`` is not imported for it."""
    return MODELS[model].__name__ if model in MODELS else model.partition(":")[2]


def build_model(config: Any) -> nn.Module:
    """The network of ``config``, freshly initialised; raises ConfigError (78) when its keys do not fit together."""
    if config.model not in MODELS:
        return build_own_model(config.model, config.scale, config.model_args)
    return MODELS[config.model].from_config(config)

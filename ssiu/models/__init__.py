"""The networks, found by the name a config gives them."""

import inspect
from typing import Any

from ssiu.errors import ConfigError
from ssiu.models.base import SRNetwork
from ssiu.models.custom import build_custom
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU

MODELS: dict[str, type[SRNetwork]] = {
    "SSIU": SSIU,
    "SSUFSR": SSIU,  # SSIU's name in the released configs
    "IDSANet": IDSANet,
}
"""Every argument of their constructors is the config key of that name."""

ANY = "any"
"""The name of whatever a file of weights holds, another method's network too: it is tested and used, not trained."""


def check_trainable(config: Any) -> None:
    """Raises ConfigError (78) for `ANY`."""
    if config.model == ANY:
        raise ConfigError("key 'model': any is a network as a file holds it, and cannot be trained; name the model")


def build_model(config: Any) -> SRNetwork:
    """The network of ``config``, freshly initialised; raises ConfigError (78) when its keys do not fit together."""
    check_trainable(config)
    if config.model not in MODELS:
        return build_custom(config.model, config.scale, config.model_args, config.rgb_range)
    kind = MODELS[config.model]
    return kind(**{name: getattr(config, name) for name in inspect.signature(kind).parameters})

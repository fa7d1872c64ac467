"""A network made ready for inference: one function and one dataclass."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ssiu.errors import ConfigError
from ssiu.inference.cuda_graphs import Graphs
from ssiu.inference.packed import BYTES_PER_LR_PIXEL, can_pack, fix_positions, pack
from ssiu.models import SSIU, IDSANet
from ssiu.models.base import SRNetwork
from ssiu.models.custom import CustomNetwork

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PreparedNetwork:
    """A network as upscaling needs it: what maps LR to SR, and what tiles must know of it.

    run: LR (B, 3, H, W) to SR (B, 3, sH, sW); of a tile also with its offset where it takes that.
    size_multiple: tiles start and end at multiples of this, as the network's windows do.
    bytes_per_lr_pixel: memory a pass takes, for tile="auto".
    device: whose memory that is.
    takes_tile_offset: tiles are run as ``run(lr, tile_offset)``, see `SSIU.forward`, and equal the whole image.
    reentrant: several threads may run it at once.
    """

    run: Callable[..., Tensor]
    size_multiple: int = SRNetwork.size_multiple
    bytes_per_lr_pixel: int = SRNetwork.bytes_per_lr_pixel
    device: torch.device = CPU
    takes_tile_offset: bool = SRNetwork.takes_tile_offset
    reentrant: bool = SRNetwork.reentrant

    def __call__(self, lr: Tensor, *tile_offset: Tensor) -> Tensor:
        return self.run(lr, *tile_offset)

    @classmethod
    def of(cls, model: SRNetwork, run: Callable[..., Tensor] | None = None) -> "PreparedNetwork":
        """``model`` as it is, or in another form: ``run``, which is called alike."""
        return cls(
            run=run or model,
            size_multiple=model.size_multiple,
            bytes_per_lr_pixel=model.bytes_per_lr_pixel,
            device=model.device,
            takes_tile_offset=model.takes_tile_offset,
            reentrant=model.reentrant,
        )


def prepare(
    model: SRNetwork | PreparedNetwork | Callable[[Tensor], Tensor], dtype: torch.dtype | None = None
) -> PreparedNetwork:
    """``model``, in eval mode, as it is called for speed, computed in ``dtype``: float32 (None) or one of its own.

    SSIU and IDSA-Net keep the weights that they have now, run in whatever form their device is fast in, give float32,
    and the output that they have without this to 1e-5 in float32. A custom network's ``prepare_for_inference(dtype)``
    is used where it has one. Any other network, or function, is called as it is.

    Raises ConfigError (78) for a ``dtype`` that is not among the network's ``dtypes``.
    """
    if isinstance(model, PreparedNetwork):
        return model
    if not isinstance(model, SRNetwork):
        return PreparedNetwork(_autocast(model, dtype))
    if dtype not in (None, torch.float32, *model.dtypes):
        raise ConfigError(f"{model.architecture} cannot be computed in {dtype}; use precision fp32 or tf32")
    if isinstance(model, SSIU | IDSANet):
        return _prepare_ours(model, dtype or torch.float32)
    run: Callable[..., Tensor] = model
    own = getattr(model.network, "prepare_for_inference", None) if isinstance(model, CustomNetwork) else None
    if isinstance(model, CustomNetwork) and own:
        run = partial(model.through, own(dtype))
    return PreparedNetwork.of(model, _autocast(run, dtype))


def _autocast(run: Callable[..., Tensor], dtype: torch.dtype | None) -> Callable[..., Tensor]:
    """``run`` under autocast to ``dtype``, if there is one."""
    if dtype in (None, torch.float32):
        return run

    def cast(lr: Tensor, *tile_offset: Tensor) -> Tensor:
        with torch.autocast(lr.device.type, dtype):
            return run(lr, *tile_offset)

    return cast


def _prepare_ours(model: SRNetwork, dtype: torch.dtype) -> PreparedNetwork:
    network = copy.deepcopy(model).eval().requires_grad_(False)
    prepared = PreparedNetwork.of(model)
    if model.device.type == "cuda":
        fix_positions(network.to(dtype))
        return replace(prepared, run=Graphs(_frozen(network, None)))
    if isinstance(network, SSIU) and model.device == CPU and can_pack(dtype):
        pack(network, dtype)
        memory = BYTES_PER_LR_PIXEL * dtype.itemsize // torch.float32.itemsize
        return replace(prepared, run=_frozen(network, None), bytes_per_lr_pixel=memory, reentrant=True)
    return replace(prepared, run=_frozen(network, None if dtype == torch.float32 else dtype), reentrant=True)


def _frozen(network: nn.Module, dtype: torch.dtype | None) -> Callable[..., Tensor]:
    """``network`` under autocast to ``dtype``, or under none whatever surrounds it, without what gradients need."""

    @torch.inference_mode()
    def run(lr: Tensor, *tile_offset: Tensor) -> Tensor:
        with torch.autocast(lr.device.type, dtype, enabled=dtype is not None):
            return network(lr, *tile_offset).float()

    return run

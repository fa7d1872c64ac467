"""External networks: other methods', recognised from their weights and built by spandrel (the extra ``external``).

Their files are read by `ssiu.weights.formats`, so nothing in them is executed: spandrel's own loader, which tries
TorchScript first, is never called. Architectures with restrictive licences take part where spandrel_extra_arches is
installed.
"""

import contextlib
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssiu.errors import BadInputError, first_line, quoted
from ssiu.files import docs_page
from ssiu.models.base import SRNetwork
from ssiu.models.layers import pad_to

INSTALL = (
    f"pip install spandrel torchvision torch=={torch.__version__.partition('+')[0]}"  # keeps the torch that is here
)
WINDOW = 16  # windows of 8 and 16 pixels are usual; no architecture says its own
TRIED = (16, 24)  # LR height and width of the image that a network is tried on


class UnknownNetworkError(Exception):
    """These tensors are of no network that can be built; the message says why."""


class ExternalNetwork(SRNetwork):
    """Another method's network, made of a descriptor of spandrel, where ``architecture`` is its name.

    Sides are padded as it asks, and the padding is cropped from the output.
    """

    def __init__(self, descriptor: Any):
        super().__init__(descriptor.scale)
        self.network: nn.Module = descriptor.model
        self.call = descriptor._call_fn  # what the descriptor's own call does before it clamps and forbids gradients
        self.architecture = descriptor.architecture.name
        self.sizes = descriptor.size_requirements
        self.size_multiple = math.lcm(self.sizes.multiple_of, WINDOW)
        supported = {torch.float16: descriptor.supports_half, torch.bfloat16: descriptor.supports_bfloat16}
        self.dtypes = tuple(dtype for dtype, yes in supported.items() if yes)

    @property
    def core(self) -> nn.Module:
        return self.network

    def forward(self, lr: Tensor) -> Tensor:
        """One image after the other, which is all that architectures promise to take."""
        return torch.cat([self._upscale(image) for image in lr.split(1)])

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Of what the network sees of an LR image."""
        right, bottom = self.sizes.get_padding(width, height)
        return height + bottom, width + right

    def _upscale(self, lr: Tensor) -> Tensor:
        """(1, 3, H, W) to (1, 3, sH, sW)."""
        height, width = lr.shape[-2:]
        rows, columns = self.padded_size(height, width)
        sr = self.call(self.network, pad_to(lr, rows, columns))  # a copy: RCAN changes what it is given
        if sr.shape != (1, 3, self.scale * rows, self.scale * columns):
            raise BadInputError(
                f"{self.architecture} makes {tuple(sr.shape)} of an image (1, 3, {rows}, {columns}); expected "
                f"{self.scale} times its sides"
            )
        return sr[..., : self.scale * height, : self.scale * width]


def build_external(tensors: Mapping[str, Tensor], path: Path | str) -> ExternalNetwork:
    """The network of ``tensors``, which are from the file ``path``, in eval mode.

    Raises UnknownNetworkError where spandrel does not know it, or is not there to ask, and BadInputError (65) for a
    network that does not make RGB images larger, does not fit its tensors, or fails on a small image.
    """
    spandrel = _import_spandrel()
    try:
        with warnings.catch_warnings(action="ignore"), _NoLargerThanItsFile(tensors):
            descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError:
        raise UnknownNetworkError(
            f"spandrel {spandrel.__version__} does not know it either; use its authors' code: --config FILE with "
            f"model: FILE.py:Class ({docs_page('external_networks.md')})"
        ) from None
    except Exception as error:  # architectures index and divide by whatever they find in the tensors
        raise _unusable(path, "spandrel cannot build its network", error) from None
    name = descriptor.architecture.name
    if descriptor.purpose != "SR":
        raise BadInputError(f"{path} holds {name}, a network for {descriptor.purpose}; expected super-resolution")
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        channels = f"{descriptor.input_channels} channels to {descriptor.output_channels}"
        raise BadInputError(f"{path} holds {name} from {channels}; expected one from RGB to RGB")
    network = ExternalNetwork(descriptor).eval()
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            network(torch.zeros(1, 3, *TRIED))
    except Exception as error:
        raise _unusable(path, f"its network, {name}, fails on an image (1, 3, {TRIED[0]}, {TRIED[1]})", error) from None
    return network


class _NoLargerThanItsFile(TorchDispatchMode):
    """Ends the making of a network that takes far more numbers than its file has: forged shapes may ask for any amount.

    They are counted when their memory has an address, which is before anything is written there.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        there = sum(tensor.numel() for tensor in tensors.values())
        self.left = 20 * there + 10**7  # masks of windows take several times their weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not func.is_view:
            self.left -= made.numel()
        if self.left < 0:
            raise ValueError("it asks for a larger network than its tensors are")
        return made


def _import_spandrel() -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            import spandrel
    except Exception as error:  # a torchvision of another build than torch's raises a RuntimeError
        absent = isinstance(error, ModuleNotFoundError) and error.name == "spandrel"
        reason = "" if absent else f", which does not import here ({first_line(error)})"
        raise UnknownNetworkError(f"other methods' networks are built by spandrel{reason}: {INSTALL}") from None
    with contextlib.suppress(ImportError):
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel


def _unusable(path: Path | str, what: str, error: Exception) -> BadInputError:
    reason = first_line(error)
    return BadInputError(f"{path}: {what} ({type(error).__name__}: {quoted(reason, 200)})")

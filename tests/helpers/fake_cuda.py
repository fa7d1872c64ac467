"""CUDA without a GPU: fake tensors that have a device, a type and strides but no numbers, and what ran on them.

Nothing is computed, so networks of full size cost moments. Tensors take the layouts that cuDNN and CUDA's own kernels
would give them, which the CPU build of torch does not know.
"""

import contextlib
import ctypes
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from faults import in_child
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)
_CPU_BUILD_SLOTS, _CUDA, _META = 24, 1, 14  # of c10's table of devices
CHANNELS_LAST = torch.channels_last
PLANAR = torch.contiguous_format
ONE_KERNEL = ("aten.scaled_dot_product", "aten.upsample_bilinear2d")  # though torch could take them apart


@contextlib.contextmanager
def fake_cuda(gradients: bool = False) -> Iterator[None]:
    """Within it all tensors are fake, and modules sent to `DEVICE` are.

    With ``gradients`` backward passes work, but autocast does not: both ask tensors for their device, and autograd's
    engine would go on to ask the device for its streams.

    A CPU build of torch cannot name a CUDA device in every call; it gets the device table's entry of ``meta``.
    """
    if not torch.backends.cuda.is_built():
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libc10.so"))
        table = (ctypes.c_void_p * _CPU_BUILD_SLOTS).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
        table[_CUDA] = table[_META]
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch.object(nn.Module, "_apply", _apply),
        mock.patch("torch.cuda.is_bf16_supported", lambda *_: True),
        FakeTensorMode(allow_non_fake_inputs=True),
        _GradientsWithoutStreams() if gradients else contextlib.nullcontext(),
    ):
        yield


class _GradientsWithoutStreams(TorchDispatchMode):
    """Hides the device from autograd's engine, which would ask it for streams; Python still sees it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.prim.device.default:
            return torch.device("cpu")
        if func is torch.ops.aten.new_zeros.default:  # for a gradient: where the engine believes its input is
            kwargs = {**(kwargs or {}), "device": args[0].device}
        return func(*args, **(kwargs or {}))


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """torch's own keeps the parameter objects, which fake tensors cannot do."""
    for child in module.modules() if recurse else [module]:
        for name, parameter in child._parameters.items():
            if parameter is not None:
                child._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in child._buffers.items():
            child._buffers[name] = buffer if buffer is None else function(buffer)
    return module


def in_a_child(task: Callable[[], dict[str, Any]]) -> SimpleNamespace:
    """What ``task`` returns, from a fork that collects no garbage: with gradients of fake tensors that crashes."""

    def without_collector() -> dict[str, Any]:
        gc.disable()
        return task()

    status, found = in_child(without_collector)
    assert status == 0, found
    return SimpleNamespace(**found)


def images(batch: int, height: int, width: int) -> Tensor:
    """LR (B, 3, H, W) on the fake GPU."""
    return torch.empty(batch, 3, height, width, device=DEVICE)


class Launches(TorchDispatchMode):
    """Counts what a GPU would launch: operators whose result is new memory, or that write into what they are given."""

    def __init__(self):
        super().__init__()
        self.names: Counter[str] = Counter()
        self.casts = 0  # to another type of number
        self.layout_copies = 0  # of whole maps (B, C, H, W), because an operator wants them in the other layout
        self.mixed = 0  # elementwise operators that read maps of both layouts
        self.blocking: list[str] = []  # what makes the host wait for the device

    def figures(self) -> dict[str, Any]:
        """All of them, to send."""
        kept = ("names", "casts", "layout_copies", "mixed", "blocking", "total")
        return {name: getattr(self, name) for name in kept}

    @property
    def total(self) -> int:
        return self.names.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        if name == "prim.device.default":
            return func(*args, **kwargs)  # below, where `fake_cuda` may answer
        if not name.startswith(ONE_KERNEL) and func._can_decompose():  # composite, under inference_mode
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name in ("aten._local_scalar_dense.default", "aten.is_nonzero.default", "aten.nonzero.default"):
            self.blocking.append(name)
            if name == "aten._local_scalar_dense.default":
                return 1  # there is no number to give: what the host asks is true
        out = self._as_on_cuda(name, given, func(*args, **kwargs))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if name == "aten._to_copy.default" and given[0].device != made[0].device and not kwargs.get("non_blocking"):
            self.blocking.append(f"{name} {given[0].device} -> {made[0].device}")
        if not _on_gpu(made) or name.startswith(("aten.empty", "aten.new_empty", "aten.detach")):
            return out
        if func.is_view:
            return out
        storages = {leaf.untyped_storage()._cdata for leaf in given}
        fresh = any(leaf.untyped_storage()._cdata not in storages for leaf in made)
        if fresh or func._schema.is_mutable:
            self._record(name, given, made)
        return out

    def _record(self, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        self.names[name] += 1
        if name in ("aten._to_copy.default", "aten.copy_.default") and given[0].dtype != made[0].dtype:
            self.casts += 1
        layouts = {_layout(leaf) for leaf in given} - {None}
        if name.startswith("aten.convolution"):
            weight = given[2] if "backward" in name else given[1]
            maps = [leaf for leaf in given if leaf is not weight]
            self.layout_copies += sum(_layout(leaf) == PLANAR for leaf in maps) if CHANNELS_LAST in layouts else 0
        elif name.startswith("aten.native_layer_norm"):  # reads rows of memory
            self.layout_copies += sum(not leaf.is_contiguous() for leaf in given if leaf.dim() == 4)
        elif name.startswith(("aten.clone", "aten._to_copy", "aten.copy_")):
            self.layout_copies += {_layout(given[0]), _layout(made[0])} == {PLANAR, CHANNELS_LAST}
        elif len(layouts) == 2:
            self.mixed += 1

    def _as_on_cuda(self, name: str, given: list[Tensor], out: Any) -> Any:
        """``out`` in the layout that CUDA's kernels give it."""
        if name.startswith(("aten.reflection_pad2d", "aten.pixel_shuffle", "aten.pixel_unshuffle")):
            return out.contiguous()
        if name.startswith("aten.native_layer_norm"):
            return (out[0].contiguous(), *out[1:])
        if name.startswith(("aten.convolution.", "aten.conv2d")):
            wanted = CHANNELS_LAST if any(map(_is_channels_last, given[:2])) else PLANAR
            return out.contiguous(memory_format=wanted)
        if name == "aten.convolution_backward.default":
            wanted = CHANNELS_LAST if any(map(_is_channels_last, given[:3])) else PLANAR
            first = out[0].contiguous(memory_format=wanted) if out[0] is not None else None
            return (first, *out[1:])
        return out


def _on_gpu(tensors: list[Tensor]) -> bool:
    return any(tensor.device.type == "cuda" for tensor in tensors)


def _is_channels_last(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=CHANNELS_LAST)


def _layout(tensor: Tensor) -> torch.memory_format | None:
    """Of a map with many channels and pixels; None where both are the same, or it is neither."""
    if tensor.dim() != 4 or tensor.shape[1] <= 3 or tensor.shape[2] * tensor.shape[3] == 1:
        return None
    if tensor.is_contiguous(memory_format=CHANNELS_LAST):
        return CHANNELS_LAST
    return PLANAR if tensor.is_contiguous() else None

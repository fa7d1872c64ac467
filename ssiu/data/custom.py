"""A data set of the user's own: ``training_dataset: package.module:Class`` or ``FILE.py:Class``."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssiu.data.samples import SampleStream
from ssiu.data.stream import Batch
from ssiu.errors import BadInputError, ConfigError, SSIUError, first_line
from ssiu.models.custom import of_scale, with_scale
from ssiu.plugins import failure, find, label_of

KEY = "training_dataset"


class CustomStream(SampleStream):
    """The pairs of a class with ``__len__`` and ``__getitem__``, such as a torch Dataset, in the order of every stream.

    An item is (lr, hr), or a dict with ``lq`` and ``gt`` as BasicSR's data sets give: (3, h, w) and (3, sh, sw), uint8
    or floats in [0, 1], all items alike. What it draws with torch, NumPy and ``random`` follows from the seed and the
    number of the sample.

    Args:
        name: of the class.
        arguments: of its constructor, but the scale, which is given as to a custom model; those of x2, x3 and x4 count
            for that scale alone.
        scale: HR side / LR side.
        batch_size: samples in a micro-batch, over all ranks together.
        data_repeat: visits of each item in an epoch.
        seed: of everything random.

    Raises ConfigError (78) for a class that cannot be imported or built, or lacks a method, BadInputError (65) for
    items that are none.
    """

    def __init__(
        self, name: str, arguments: Mapping[str, Any], scale: int, batch_size: int, data_repeat: int, seed: int
    ):
        self._made_from = name, dict(arguments), scale, batch_size, data_repeat, seed
        self.name, self.scale = name, scale
        self.arguments = of_scale(arguments, scale)
        kind: Any = find(KEY, name, object)
        try:
            self.dataset = kind(**with_scale(KEY, name, kind, scale, self.arguments))
        except SSIUError:
            raise
        except Exception as error:
            what = f"cannot be built with scale={scale} and {KEY}_args {self.arguments}"
            raise failure(KEY, name, what, error) from error
        if not (hasattr(kind, "__getitem__") and hasattr(kind, "__len__")):
            raise ConfigError(f"{KEY} {name}: expected a class with __len__ and __getitem__, as a torch Dataset has")
        count = len(self.dataset)
        if not count:
            raise BadInputError(f"{KEY} {name} has no items")
        lr, hr = self._item(0, 0)
        shapes = tuple(lr.shape), tuple(hr.shape)
        super().__init__((count,), (count * data_repeat,), shapes, batch_size, seed, lr.dtype)

    def __reduce__(self) -> Any:
        return CustomStream, self._made_from  # a worker that is not forked imports the class again

    @property
    def manifest(self) -> str:
        """Of the class's name, its arguments and the number of its items: what they are only the class knows."""
        made_of = [PurePath(self.name).name, self.arguments, len(self.dataset)]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()

    def name_of(self, g: int) -> str:
        return f"{label_of(self.name)}[{self.image_index(g)}]"

    def write(self, g: int, lr: np.ndarray, hr: np.ndarray) -> None:
        index = self.image_index(g)
        pair = self._item(index, self.key(g))
        kinds = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in pair]
        expected = [f"{shape} {self.dtype}" for shape in self.shapes]
        if kinds != expected:
            raise BadInputError(
                f"{KEY} {self.name}: item {index} is {' and '.join(kinds)}; expected what item 0 is, "
                f"{' and '.join(expected)}"
            )
        lr[:], hr[:] = (tensor.numpy() for tensor in pair)

    def __str__(self) -> str:
        return f"{self.name} ({len(self.dataset):,} items)"

    def _item(self, index: int, key: int) -> Batch:
        """LR and HR of an item; ``key`` says what it draws."""
        try:
            with _drawing(key):
                item = self.dataset[index]
            lr, hr = (item["lq"], item["gt"]) if isinstance(item, Mapping) else item
            pair = _plain(lr), _plain(hr)
        except SSIUError:
            raise
        except Exception as error:
            raise BadInputError(
                f"{KEY} {self.name}: item {index} fails: {type(error).__name__}: {first_line(error)}; expected "
                "(lr, hr), or a dict with lq and gt"
            ) from error
        sizes = [tuple(tensor.shape) for tensor in pair]
        if len(sizes[0]) != 3 or sizes[1] != (3, *(self.scale * side for side in sizes[0][1:])) or sizes[0][0] != 3:
            raise BadInputError(
                f"{KEY} {self.name}: item {index} is {sizes[0]} and {sizes[1]}; expected LR (3, h, w) and HR (3, "
                f"{self.scale} h, {self.scale} w)"
            )
        return pair


def _plain(image: Any) -> Tensor:
    """A tensor on the CPU, uint8 or float32."""
    tensor = torch.as_tensor(image).detach().cpu()
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise TypeError(f"an image of {tensor.dtype}, where uint8 or floats in [0, 1] are expected")
    return tensor if tensor.dtype == torch.uint8 else tensor.float()


@contextmanager
def _drawing(key: int) -> Iterator[None]:
    """Whatever is drawn inside follows from ``key``; outside nothing changes."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.default_generator.manual_seed(key % 2**63)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])

"""Where `ssiu benchmark gpu` measures: networks, data and the clock that its checks share."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import skimage.data
import torch
from torch import nn

from ssiu.bench.timing import race
from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.images.bicubic import make_lr
from ssiu.images.io import save_image
from ssiu.models import SSIU

Network = TypeVar("Network", bound=nn.Module)

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")  # inside scikit-image
SMALL = {"n_feats": 8, "num_heads": 2, "n_blocks": 3}
WARM_UPS = 3


@dataclass(frozen=True)
class Lab:
    """Where it is measured: ``toy`` with tiny networks; ``folder`` for what is written; ``data_path`` has Set5."""

    device: torch.device
    toy: bool
    folder: Path
    data_path: Path | None = None

    def model(self, scale: int) -> SSIU:
        """With the same random weights every time, on the device."""
        torch.manual_seed(0)
        sizes: dict[str, Any] = SMALL if self.toy else {}
        return SSIU(scale, **sizes).to(self.device)

    def config(self, scale: int, **values: Any) -> Config:
        """The paper's training on the photographs, or a toy of it."""
        side, batch = (24, 2) if self.toy else (64, 40)
        defaults = {"scale": scale, "patch_size": side * scale, "batch_size": batch, "device": self.device.type}
        defaults |= {"data_path": str(self.photographs(scale)), "log_path": str(self.folder / "logs")}
        defaults |= {"training_dataset": "photographs", "test_every": 0, "eval_sets": [], "save_every": 10**6}
        return make_config(defaults | (SMALL if self.toy else {}) | {"threads": 0 if self.toy else 8} | values)

    def photographs(self, scale: int) -> Path:
        """A data folder with the set ``photographs``."""
        for name in PHOTOGRAPHS:
            hr = getattr(skimage.data, name)()[: 48 if self.toy else None, : 48 if self.toy else None]
            for folder, image in (("HR", hr), (f"LR_bicubic/X{scale}", make_lr(hr, scale))):
                path = (
                    self.folder / "photographs" / folder / (f"{name}.png" if folder == "HR" else f"{name}x{scale}.png")
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    save_image(path, image)
        return self.folder

    def compiled(self, network: Network, mode: str | None = None) -> Network:
        """A copy, compiled by Inductor; a toy only passes through the front end."""
        network = copy.deepcopy(network)
        network.compile(backend="eager") if self.toy else network.compile(mode=mode)
        return network

    def timed(self, work: Callable[[], object], turns: int) -> dict[str, float]:
        """Median and quartiles in ms, and the peak of memory with everything in it."""
        for _ in range(1 if self.toy else WARM_UPS):
            work()
        figures = {}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            work()
            figures = {"peak_mib": round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)}
        seconds = sorted(race({"work": work}, 1 if self.toy else turns, self.device)["work"].seconds)
        quarter = len(seconds) // 4
        names = {"ms": seconds[len(seconds) // 2], "from": seconds[quarter], "to": seconds[-quarter - 1]}
        return {name: round(1000 * value, 3) for name, value in names.items()} | figures


@dataclass(frozen=True)
class Check:
    """A measurement, and the seconds it may take with its compilation: without them it is not begun."""

    name: str
    seconds: int
    measure: Callable[[Lab], dict[str, Any]]

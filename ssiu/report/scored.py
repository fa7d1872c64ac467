"""A network's scores on test sets beside bicubic's, and what is known of it: what a results folder is written from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssiu import __version__
from ssiu.config.schema import Config
from ssiu.data.catalog import usual_name
from ssiu.data.test_sets import BenchmarkSet
from ssiu.device import describe
from ssiu.errors import first_names
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import PROTOCOLS
from ssiu.evaluation.scores import Evaluation
from ssiu.inference.complexity import network_size
from ssiu.inference.networks import Bicubic
from ssiu.models.base import SRNetwork
from ssiu.report.paper.published import published
from ssiu.report.tables import Cell, Table, cell, image_count
from ssiu.weights.external import ExternalNetwork
from ssiu.weights.formats import Weights
from ssiu.weights.hub import is_on_hub, plain_name


@dataclass(frozen=True)
class ScoredNetwork:
    """What the network of ``weights``, under the settings of ``config``, scores on ``test_sets``.

    ``macs``: multiply-accumulates for an SR image of 1280x720, None where they could not be counted.
    """

    config: Config
    weights: Path
    weights_sha256: str
    architecture: str
    is_external: bool
    parameters: int
    macs: int | None
    device: str
    test_sets: Sequence[BenchmarkSet]
    evaluation: Evaluation
    bicubic: Evaluation

    @property
    def title(self) -> str:
        """With the file of an external network, of which there are several sizes."""
        title = f"{self._name} x{self.config.scale}"
        file = plain_name(self.weights) if is_on_hub(self.weights) else self.weights.name
        return f"{title}, {file}" if self.is_external else title

    @property
    def _name(self) -> str:
        """``SSIU+`` for a self-ensemble, as papers write it."""
        return self.architecture + "+" * self.config.self_ensemble

    def facts(self) -> dict[str, str]:
        """What was run, by name."""
        ensemble = ", x8 self-ensemble" if self.config.self_ensemble else ""
        return {
            "weights": f"{self.weights} (sha256 {self.weights_sha256[:12]})",
            "run": f"{self.config.precision} on {self.device}, tile {self.config.tile}{ensemble}",
            "made": f"{self.evaluation.date} with ssiu {__version__}",
        }

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        scores = self.evaluation.summary(
            model=self.architecture, scale=self.config.scale, checkpoint=str(self.weights),
            weights_sha256=self.weights_sha256, precision=self.config.precision,
            self_ensemble=self.config.self_ensemble,
        )  # fmt: skip
        return scores | {"parameters": self.parameters, "macs_1280x720": self.macs}

    def table(self) -> Table:
        """Bicubic, ours and the published row side by side: a line a test set, the protocol in every column's title."""
        columns = [("bicubic", "standard", self.bicubic.means["standard"])]
        columns += [(self._name, protocol, sets) for protocol, sets in self.evaluation.means.items()]
        header = ["PSNR dB / SSIM", "images", *[f"{name} ({protocol})" for name, protocol, _ in columns]]
        # variants of ours stand beside the paper's row, too; an external network's row is of its size
        size = float(self.parameters) if self.is_external else float("nan")
        paper_protocol, paper = published(self.architecture, self.config.scale, size)
        header += [f"paper's {self.architecture} ({paper_protocol})"] if paper else []
        rows: list[list[Cell]] = []
        for name in self.evaluation.sets:
            row: list[Cell] = [name, image_count(self.evaluation, name)]
            row += [cell(sets[name], protocol) for _, protocol, sets in columns]
            row += [cell(paper.get(usual_name(name)), "standard")] if paper else []  # what is printed is rounded
            rows.append(row)
        remarks = (*(f"Bicubic, {remark}" for remark in self.bicubic.remarks()), *self.evaluation.remarks())
        return Table(self.title, header, rows, (*remarks, *self._below_bicubic()))

    def _below_bicubic(self) -> list[str]:
        """What is usually wrong where a network is worse than interpolation."""
        means, bicubic = self.evaluation.means["standard"], self.bicubic.means["standard"]
        below = [name for name, score in means.items() if score.psnr < bicubic[name].psnr]
        if not below:
            return []
        return [
            f"PSNR is below bicubic's on {first_names(below)}: usually the network expects 0 to 255 (rgb_range: 255), "
            "BGR instead of RGB, or another scale, or these weights are not trained."
        ]


def score_network(
    config: Config,
    network: SRNetwork,
    weights: Weights,
    device: torch.device,
    test_sets: Sequence[BenchmarkSet],
    images: Path,
    protocols: Sequence[str] = PROTOCOLS,
) -> ScoredNetwork:
    """Scores ``network``, which was loaded from ``weights``, and bicubic; the rest as `evaluate`.

    SR images go into the folder ``images``, unless the config keeps none.
    """
    parameters, macs = network_size(network)
    evaluation = evaluate(
        network.to(device), test_sets, precision=config.precision, tile=config.tile,
        self_ensemble=config.self_ensemble, protocols=protocols, save_to=images if config.save_image else None,
    )  # fmt: skip
    return ScoredNetwork(
        config=config,
        weights=weights.path,
        weights_sha256=weights.sha256,
        architecture=network.architecture,
        is_external=isinstance(network, ExternalNetwork),
        parameters=parameters,
        macs=macs,
        device=describe(device),
        test_sets=test_sets,
        evaluation=evaluation,
        bicubic=evaluate(Bicubic(config.scale), test_sets, protocols=("standard",)),
    )

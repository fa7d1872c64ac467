"""A results folder with a page, made from scores that are known, without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.data.test_sets import BenchmarkSet, load_test_sets
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.scores import Evaluation
from ssiu.inference.networks import Bicubic
from ssiu.report.results import open_results, other_results, write_results
from ssiu.report.scored import ScoredNetwork


def write_page(
    data: Path,
    folder: Path,
    sets: list[str],
    scale: int = 2,
    save_image: bool = True,
    beside: Path | None = None,
    shown: int | None = 6,
) -> Path:
    """The results of a network that smooths a little more than bicubic, as `test.py` writes them; returns the page."""
    config = make_config({"data_path": str(data), "scale": scale, "patch_size": 48, "eval_sets": sets})
    test_sets = load_test_sets(config)
    other = beside and other_results(beside, test_sets)
    baseline = Bicubic(scale)
    with open_results(folder, config):
        ours = evaluate(
            lambda lr: baseline(lr) * 0.95 + 0.02, test_sets, save_to=folder / "images" if save_image else None
        )
        scored = scored_network(config, test_sets, ours, evaluate(baseline, test_sets))
        facts = {"command": "python test.py <&>"}
        write_results(folder, scored, facts, shown=shown, other=other)
    return folder / "report.html"


def scored_network(
    config: Config, test_sets: Sequence[BenchmarkSet], ours: Evaluation, bicubic: Evaluation, **known: Any
) -> ScoredNetwork:
    """Scores as if they were SSIU's."""
    about = {"weights": Path("w.pt"), "weights_sha256": "ab", "architecture": "SSIU", "is_external": False}
    about |= {"parameters": 1000, "macs": None, "device": "CPU"}
    return ScoredNetwork(config=config, test_sets=test_sets, evaluation=ours, bicubic=bicubic, **about | known)

"""A results folder with a page, made from scores that are known, without a network."""

from pathlib import Path

from ssiu.config.load import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.evaluation.evaluate import evaluate
from ssiu.inference.networks import Bicubic
from ssiu.report.results import open_results, other_results, write_results
from ssiu.report.tables import comparison


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
        save_to = folder / "images" if save_image else None
        ours = evaluate(lambda lr: baseline(lr) * 0.95 + 0.02, test_sets, save_to=save_to)
        bicubic = evaluate(baseline, test_sets)
        summary = ours.summary(model="SSIU", scale=scale, checkpoint="w.pt", weights_sha256="ab")
        table = comparison(f"SSIU x{scale}", "SSIU", scale, ours, bicubic)
        facts = {"command": "python test.py <&>"}
        write_results(folder, table, facts, summary, ours, bicubic, test_sets, shown=shown, other=other)
    return folder / "report.html"

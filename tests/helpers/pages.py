"""A results folder with a page, made from scores that are known, without a network."""

from pathlib import Path

from ssiu.config import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.evaluation.evaluate import Bicubic, evaluate
from ssiu.report.results import open_results, write_results
from ssiu.report.tables import comparison


def write_page(data: Path, folder: Path, sets: list[str], scale: int = 2, save_image: bool = True) -> Path:
    """The results of a network that smooths a little more than bicubic, as `test.py` writes them; returns the page."""
    config = make_config({"data_path": str(data), "scale": scale, "patch_size": 48, "eval_sets": sets})
    test_sets = load_test_sets(config)
    open_results(folder, config)
    baseline = Bicubic(scale)
    ours = evaluate(lambda lr: baseline(lr) * 0.95 + 0.02, test_sets, save_to=folder / "images" if save_image else None)
    bicubic = evaluate(baseline, test_sets)
    summary = ours.summary(model="SSIU", scale=scale, checkpoint="w.pt", weights_sha256="ab")
    table = comparison(f"SSIU x{scale}", "SSIU", scale, ours, bicubic)
    write_results(folder, table, {"command": "python test.py <&>"}, summary, ours, bicubic, test_sets)
    return folder / "report.html"

"""What is finished of a study, and its tables: means, deviations over seeds, and differences to the first variant."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssiu.config.changes import changed_settings
from ssiu.config.load import TEXT_KEYS, load_config, read_values
from ssiu.config.study import SAME, Study, StudyRun, all_settings
from ssiu.errors import ConfigError, SSIUError, first_names
from ssiu.evaluation.metrics import PROTOCOLS, Score
from ssiu.evaluation.scores import NO_SUMMARY, SUMMARY, summary_means
from ssiu.evaluation.statistics import difference, mean_and_deviation
from ssiu.files import contents, csv_text, write_atomically
from ssiu.report.pages import encoded, tables_page
from ssiu.report.tables import Cell, Number, Table

FORMS = (".3f", ".4f")  # a digit of PSNR more than papers print: what seeds change is small
SEEDS = "Mean ± standard deviation over the seeds; no mean is rounded up."
PAIRED = (
    "Mean of the differences seed by seed ± half of its 95% interval (Student's t): over seeds, on these images. "
    "ssiu compare gives the interval over images."
)


@dataclass(frozen=True)
class FinishedRun:
    """A run that is trained and scored: ``means[protocol][set name]``."""

    variant: str
    seed: int
    means: dict[str, dict[str, Score]]
    params_k: float
    macs_g: float


def results_folder(run: StudyRun) -> Path:
    """Where a run's results lie, as `test.py` writes them."""
    return run.config.run_folder / "results" / "test"


def finished(run: StudyRun) -> FinishedRun | None:
    """What is known of ``run``; None where it is still to be trained or scored, or was scored on other sets."""
    folder, now = results_folder(run), run.config.model_dump(mode="json")
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        scored = read_values(folder / "config.yml", "the config of results", TEXT_KEYS)
        if any(scored[key] != now[key] for key in SAME):
            return None
        parameters, macs = (float(summary[key] or math.nan) for key in ("parameters", "macs_1280x720"))
        return FinishedRun(run.variant, run.seed, summary_means(summary), parameters / 1e3, macs / 1e9)
    except (OSError, SSIUError, *NO_SUMMARY):
        return None


def check_folders(study: Study) -> list[str]:
    """The folders beside the study's runs that are no runs of it.

    Raises ConfigError (78) where a run was made with other settings or lies there under another name: it is not trained
    again for that.
    """
    there = {Path(name).parent.name for name in contents(study.folder, "*/config.yml")}
    strays = {name: _settings_in(study.folder / name) for name in sorted(there - {run.name for run in study.runs})}
    for run in study.runs:
        if run.name in there:
            path = study.folder / run.name / "config.yml"
            then = read_values(path, "the config of a run", TEXT_KEYS)
            if changes := changed_settings(then, run.config.model_dump(mode="json")):
                raise ConfigError(
                    f"{path} is of a run with other settings: {'; '.join(changes)}. Undo the change, or keep both "
                    "with another file name for this study"
                )
        elif renamed := [name for name, settings in strays.items() if settings == all_settings(run.config)]:
            raise ConfigError(
                f"{study.folder / renamed[0]} holds the run that is called {run.name} now: rename that folder, too, or "
                "give the variant its old name"
            )
    return list(strays)


def _settings_in(folder: Path) -> dict[str, Any] | None:
    try:
        return all_settings(load_config(folder / "config.yml"))
    except SSIUError:  # another version's
        return None


def study_tables(study: Study, done: Sequence[FinishedRun]) -> list[Table]:
    """For each protocol every variant's means, and how the others differ from the first."""
    missing = {(run.variant, run.seed): run.name for run in study.runs}
    of: dict[str, dict[int, FinishedRun]] = {name: {} for name in study.variants}
    for run in done:
        of[run.variant][run.seed] = run
        del missing[run.variant, run.seed]
    notes = (f"Not finished: {first_names(missing.values())}.",) if missing else ()
    tables = []
    first, *others = study.variants
    for protocol in PROTOCOLS if done else ():
        sets = list(done[0].means[protocol])
        header = ["PSNR dB / SSIM", "seeds", "params K", "MACs G", *sets]
        rows = [_means(name, list(runs.values()), protocol, sets) for name, runs in of.items() if runs]
        tables.append(Table(f"{study.name}, {protocol}", header, rows, (SEEDS, *notes)))
        pairs = {
            name: [(run, of[first][seed]) for seed, run in of[name].items() if seed in of[first]] for name in others
        }
        rows = [_differences(name, runs, protocol, sets) for name, runs in pairs.items() if runs]
        if rows:
            header = ["PSNR dB / SSIM", "seeds", *sets]
            tables.append(Table(f"{study.name}, {protocol}: difference to {first}", header, rows, (PAIRED,)))
    return tables


def _means(name: str, runs: Sequence[FinishedRun], protocol: str, sets: Sequence[str]) -> list[Cell]:
    row: list[Cell] = [name, Number(len(runs), "d"), Number(runs[0].params_k, ",.2f"), Number(runs[0].macs_g, ",.1f")]
    for each in sets:
        numbers = zip(*(run.means[protocol][each] for run in runs), strict=True)
        spreads = [mean_and_deviation(values) for values in numbers]
        row.append(tuple(Number(mean, form, spread=s) for (mean, s), form in zip(spreads, FORMS, strict=True)))
    return row


def _differences(
    name: str, pairs: Sequence[tuple[FinishedRun, FinishedRun]], protocol: str, sets: Sequence[str]
) -> list[Cell]:
    row: list[Cell] = [name, Number(len(pairs), "d")]
    for each in sets:
        gains = [[a - b for a, b in zip(one.means[protocol][each], two.means[protocol][each], strict=True)]
                 for one, two in pairs]  # fmt: skip
        found = [difference([values]) for values in zip(*gains, strict=True)]
        row.append(tuple(Number(d.mean, "+" + form, spread=d.high - d.mean)
                         for d, form in zip(found, FORMS, strict=True)))  # fmt: skip
    return row


def write_tables(study: Study, done: Sequence[FinishedRun], tables: Sequence[Table], command: str) -> Path:
    """``table.md``, ``.tex``, ``.html`` and ``.csv`` (every run, with all digits) in the study's folder; the page."""
    formats = {
        "md": encoded("\n".join(table.markdown() for table in tables)),
        "tex": encoded("\n".join(table.latex() for table in tables)),
        "csv": encoded(_csv(done)),
        "html": tables_page(f"Study {study.name}", tables, {"command": command}),
    }
    for suffix, content in formats.items():
        write_atomically(study.folder / f"table.{suffix}", content)
    return study.folder / "table.html"


def _csv(done: Sequence[FinishedRun]) -> str:
    lines = (
        [run.variant, run.seed, protocol, name, *score]
        for run in done
        for protocol, sets in run.means.items()
        for name, score in sets.items()
    )
    return csv_text(["variant", "seed", "protocol", "set", *Score._fields], lines)

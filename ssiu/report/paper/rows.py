"""The rows of Table I: the paper's, bicubic and our runs, each number under the protocol it was computed with."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ssiu.data.catalog import TEST_SETS
from ssiu.data.test_sets import BenchmarkSet, load_test_set
from ssiu.errors import BadInputError, MissingInputError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import Score, rounded
from ssiu.evaluation.scores import NO_SUMMARY, SUMMARY, summary_means
from ssiu.evaluation.statistics import mean_and_deviation
from ssiu.files import csv_text
from ssiu.inference.networks import Bicubic
from ssiu.report.paper.published import PaperRow, known_rows, measured_here, paper_row
from ssiu.report.tables import ABSENT

BICUBIC = "bicubic"


@dataclass(frozen=True)
class Row:
    """A method at one scale: ``means[protocol][set name]``, and the ``source`` of the numbers, never a path.

    ``recomputes`` is the paper's row whose numbers were computed again here. Of several ``seeds`` the means are means
    over them, too, and ``deviations`` their standard deviations.
    """

    method: str
    scale: int
    source: str
    means: dict[str, dict[str, Score]]
    training_set: str = ABSENT
    params_k: float = math.nan
    flops_g: float = math.nan
    rounded: bool = False  # printed numbers: never rounded again
    recomputes: str = ""
    self_ensemble: bool = False
    seeds: int = 1
    deviations: dict[str, dict[str, Score]] = field(default_factory=dict)

    def printed(self, protocol: str, set_name: str) -> Score | None:
        """PSNR and SSIM rounded as they stand in the table; None where there are none."""
        score = self.means.get(protocol, {}).get(set_name)
        return score and rounded(score, "standard" if self.rounded else protocol)


def published_rows(scale: int) -> list[Row]:
    """What the paper prints, and what has been published since."""
    return [_row(row, rounded=True) for row in known_rows(scale)]


def measured_rows(scale: int) -> list[Row]:
    """Other methods as they were measured here; those that have a published row recompute it."""
    rows = []
    for row in measured_here(scale):
        known = paper_row(row.method, scale, 1e3 * row.params_k)
        recomputes = known.method if known else ""
        rows.append(_row(replace(row, method=f"{row.method} (measured here)"), recomputes=recomputes))
    return rows


def _row(row: PaperRow, rounded: bool = False, recomputes: str = "") -> Row:
    return Row(
        row.method, row.scale, row.source, {row.protocol: row.scores}, row.training_set, row.params_k, row.flops_g,
        rounded=rounded, recomputes=recomputes,
    )  # fmt: skip


def bicubic_row(data_path: Path, scale: int, others: Iterable[str] = ()) -> tuple[Row, list[str]]:
    """MATLAB's bicubic on the paper's and ``others``' test sets in ``data_path``, and the names of those not there."""
    found: dict[str, BenchmarkSet] = {}  # by the name with the copy: "Set5" may be "Set5 mod12", which others name too
    absent = []
    for name in dict.fromkeys((*TEST_SETS, *others)):
        try:
            test_set = load_test_set(data_path, name, scale)
            found.setdefault(test_set.name, test_set)
        except MissingInputError:
            absent.append(name)
    means = evaluate(Bicubic(scale), list(found.values())).means if found else {}
    return Row(BICUBIC, scale, "computed", means), [name for name in absent if name not in found]


def set_names(rows: Iterable[Row]) -> list[str]:
    """The test sets that ``rows`` have numbers on."""
    return list(dict.fromkeys(name for row in rows for sets in row.means.values() for name in sets))


def result_rows(files: Iterable[tuple[str | None, Path]]) -> list[Row]:
    """The runs in ``summary.json`` files of `test.py` and JSON files of `score.py`, each with a name or None.

    A path with a ``*`` stands for the seeds of one method, which are one row.
    Files of one name, scale, network and settings that share no set make one row, so a method's sets may be scored one
    by one. Rows without a name are called after the model, and after their folder where the paper or another run of
    that scale has the same name. A self-ensemble has a ``+`` behind its name, as in papers, and a precision other than
    fp32 is named; neither is a recomputation of the paper's row.
    Raises MissingInputError (66) for a file that is absent and BadInputError (65) for one that is something else, or
    when two files give one set of one named row, or are of different networks or settings.
    """
    rows: list[Row] = []
    keys: list[tuple] = []
    for name, path in files:
        row, run = _of_seeds(path) if "*" in str(path) and not path.exists() else _read_summary(path)
        method = name or row.method
        key = (name, method, row.scale, run)
        shown = method + _settings(run, has_plus=name is not None and name.endswith("+"))
        parameters = math.nan if name else 1e3 * row.params_k
        paper = paper_row(method, row.scale, parameters) if shown == method else None
        row = replace(row, method=shown, recomputes=paper.method if paper else "")
        if name and any(other[:3] == key[:3] and other != key for other in keys):
            raise BadInputError(
                f"{path} is of another network, or other settings (precision, self_ensemble), than the file before it "
                f"called {name} x{row.scale}; give each its own name"
            )
        same = next((index for index, other in enumerate(keys) if other == key), None)
        twice = [] if same is None else sorted(set(set_names([row])) & set(set_names([rows[same]])))
        if twice and name:
            raise BadInputError(f"{path}: {', '.join(twice)} of {name} x{row.scale} is given twice; name it once")
        if same is None or twice:
            rows.append(row)
            keys.append(key)
        else:
            for protocol, sets in row.means.items():
                rows[same].means.setdefault(protocol, {}).update(sets)
    named_alike = [(row.recomputes or row.method, row.scale) for row in rows]
    taken = Counter([*named_alike, *((row.method, row.scale) for row in known_rows())])
    return [
        replace(row, method=f"{row.method} ({row.source})") if taken[alike] > 1 and not named else row
        for row, alike, (named, *_) in zip(rows, named_alike, keys, strict=True)
    ]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """What was recomputed right below the paper's row, the others as they stand."""
    below = [row for row in rows if row.recomputes]
    others = [row for row in rows if not row.recomputes]
    return [each for row in others for each in (row, *(b for b in below if b.recomputes == row.method))]


def rows_csv(rows: Iterable[Row]) -> str:
    """A line per method, protocol and set, with all digits."""
    lines = (
        [row.scale, row.method, row.source, protocol, name, *score]
        for row in rows
        for protocol, sets in row.means.items()
        for name, score in sets.items()
    )
    return csv_text(["scale", "method", "from", "protocol", "set", *Score._fields], lines)


class _Run(NamedTuple):
    """What numbers were computed by; None where that is not known."""

    network: str | None
    precision: str | None
    self_ensemble: bool | None


def _settings(run: _Run, has_plus: bool) -> str:
    """What stands behind the name of a method for them."""
    plus = "+" if run.self_ensemble and not has_plus else ""
    return plus + ("" if run.precision in (None, "fp32") else f" ({run.precision})")


def _of_seeds(pattern: Path) -> tuple[Row, _Run]:
    """The row of all files that fit ``pattern``: means over the seeds and their deviations."""
    paths = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    if not paths:
        raise MissingInputError(f"{pattern}: no such file; expected a summary.json of each seed")
    rows, runs = zip(*map(_read_summary, paths), strict=True)
    facts = [
        (row.method, row.scale, row.params_k, run[1:], set_names([row])) for row, run in zip(rows, runs, strict=True)
    ]
    if other := next((path for path, fact in zip(paths, facts, strict=True) if repr(fact) != repr(facts[0])), None):
        raise BadInputError(
            f"{other} is not a seed of {paths[0]}: they differ in network, scale, precision, self_ensemble or sets"
        )
    networks = [run.network for run in runs if run.network]
    if len(set(networks)) < len(networks):
        raise BadInputError(f"{pattern}: two of these files are of the same weights, and so of one seed")
    means: dict[str, dict[str, Score]] = {}
    deviations: dict[str, dict[str, Score]] = {}
    for protocol, sets in rows[0].means.items():
        for name in sets:
            numbers = zip(*(row.means[protocol][name] for row in rows), strict=True)
            psnr, ssim = map(mean_and_deviation, numbers)
            means.setdefault(protocol, {})[name] = Score(psnr[0], ssim[0])
            deviations.setdefault(protocol, {})[name] = Score(psnr[1], ssim[1])
    row = replace(rows[0], source=pattern.parent.name, means=means, deviations=deviations, seeds=len(rows))
    return row, runs[0]._replace(network="+".join(networks) or None)


def _read_summary(path: Path) -> tuple[Row, _Run]:
    """The row of one file, called after its model, and its run.

    Nothing is known of the network behind images (score.py), nor of the settings of a run by an earlier version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        row = Row(
            str(document["model"]),
            int(document["scale"]),
            path.absolute().parent.name if path.name == SUMMARY else path.stem,
            summary_means(document),
            params_k=float(document.get("parameters") or math.nan) / 1e3,  # score.py knows no network
            flops_g=float(document.get("macs_1280x720") or math.nan) / 1e9,
            self_ensemble=bool(document.get("self_ensemble")),
        )
        network = document.get("weights_sha256") or document["checkpoint"]
        return row, _Run(network, document.get("precision"), document.get("self_ensemble"))
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}; expected a summary.json of test.py or score.py") from None
    except NO_SUMMARY:
        raise BadInputError(f"{path} is not a summary.json of test.py or score.py; remove it or name another") from None

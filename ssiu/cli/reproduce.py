"""Prints the SSIU rows of Table I as the paper has them and as they come out here, and which cells agree.

ssiu reproduce                                     the authors' weights, every scale and test set
ssiu reproduce --scale 4 --sets Set5 Set14 --weights ours

Weights and test sets that are missing are downloaded first (see ssiu download). Both protocols are computed. Writes a
table, JSON and a page into results/reproduce_authors or _ours. It may be stopped and run again: finished cells are
kept. Manga109 has to be asked for by yourself; it is left out where it is not there, unless --sets names it.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, log_to_console
from ssiu.config.load import make_config
from ssiu.data.catalog import TEST_SETS, known_name, usual_name
from ssiu.data.pairs import find_pairs, set_folders
from ssiu.data.test_sets import load_test_set, refuse_twice
from ssiu.device import keep_freed_memory, select_device, set_arithmetic
from ssiu.download.sources import MANIFEST, Manifest, obtain_sets, obtain_weights, read_manifest, require_released
from ssiu.errors import ConfigError, MissingInputError
from ssiu.files import make_folder, nonempty_path
from ssiu.report.paper.reproduce import (
    MODEL,
    CellResult,
    reproduction_table,
    score_cell,
    write_reproduction,
)
from ssiu.report.paper.table1 import Row, published_rows, table1
from ssiu.weights.formats import read_weights
from ssiu.weights.load import SHIPPED, load_model, shipped_file, weights_folder


def weights_of(kind: str, scale: int, manifest: Manifest) -> Path:
    """The authors' file, downloaded where it is missing and never another one, or ours."""
    if kind == "ours":
        name = f"{MODEL}_x{scale}.safetensors"
        path = shipped_file(name)
        if path is None:
            raise MissingInputError(f"{name} is in none of {', '.join(map(str, SHIPPED))}; clone the repository again")
        return path
    path = shipped_file(manifest.weights_file(scale).name)
    if path is None:
        (path,) = obtain_weights(manifest, weights_folder(), [scale])
    require_released(manifest, path, scale)
    return path


def sets_to_score(data_path: Path, asked: Sequence[str] | None, scales: Sequence[int], manifest: Manifest) -> list[str]:
    """The names of the sets, downloaded where they are missing; Manga109 only where it is there or was asked for."""
    names = list(dict.fromkeys(known_name(name) for name in asked or TEST_SETS))
    for name in names:
        if usual_name(name) not in TEST_SETS:
            raise ConfigError(f"--sets {name}: the paper's sets are {', '.join(TEST_SETS)}, a copy of one 'Set5 mod12'")
    absent = [name for name in names if set_folders(data_path, name) is None]
    for name in absent:
        if asked and not any(name in archive.sets for archive in manifest.archives.values()):
            find_pairs(data_path, name, scales[0])  # says what to do, before anything is downloaded
    for name, archive in manifest.archives.items():
        if archive.sets.keys() & absent:
            obtain_sets(manifest, name, data_path, scales)
    return [name for name in names if asked or set_folders(data_path, name)]


def row_of(cells: Sequence[CellResult], scale: int, weights: Path) -> Row:
    """Our numbers as a row of Table I."""
    means = {protocol: {c.set_name: c.ours[protocol] for c in cells} for protocol in ("standard", "official")}
    return Row(f"{MODEL}, here", scale, weights.name, means)


def main(argv: Sequence[str]) -> None:
    parser = command_parser("reproduce", __doc__)
    parser.add_argument("--scale", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3, 4], metavar="S")
    parser.add_argument("--sets", nargs="+", metavar="SET", help=f"default: {', '.join(TEST_SETS)}")
    parser.add_argument("--weights", choices=("authors", "ours"), default="authors")
    parser.add_argument("--data", type=Path, default=Path("data"), help="your data_path; default: data")
    parser.add_argument("--output", type=nonempty_path, metavar="DIR", help="default: results/reproduce_{authors,ours}")
    parser.add_argument("--sources", type=Path, default=MANIFEST, metavar="FILE", help="see ssiu download")
    args = parser.parse_args(argv)
    log_to_console()
    manifest, scales = read_manifest(args.sources), sorted(set(args.scale))
    names = sets_to_score(args.data, args.sets, scales, manifest)
    test_sets = {scale: [load_test_set(args.data, name, scale) for name in names] for scale in scales}
    refuse_twice("--sets", test_sets[scales[0]])
    paths = {scale: weights_of(args.weights, scale, manifest) for scale in scales}
    output = make_folder(args.output or Path("results") / f"reproduce_{args.weights}")
    config = make_config({})
    device = select_device(config.device, config.gpu_ids)
    keep_freed_memory()
    set_arithmetic("fp32", config.deterministic)

    cells, tables = [], []
    facts = {"command": shlex.join(["ssiu", "reproduce", *argv])}
    for scale in scales:
        weights = read_weights(paths[scale])
        network = load_model(weights, device, scale, MODEL)
        rows = [score_cell(output / "cells", network, weights, each, device) for each in test_sets[scale]]
        cells += rows
        facts[f"weights x{scale}"] = f"{weights.path} (sha256 of the tensors {weights.sha256[:12]})"
        tables.append(table1(scale, [*published_rows(scale), row_of(rows, scale, weights.path)]))
    facts["computed with"] = "; ".join(dict.fromkeys(each.computed_with for each in cells))
    absent = [name for name in TEST_SETS if not args.sets and name not in names]
    table = reproduction_table(cells, absent)
    write_reproduction(output, table, cells, facts, tables)
    print(table.text())
    print(*(f"{key}: {value}" for key, value in facts.items()), f"look at {output / 'reproduce.html'}", sep="\n")

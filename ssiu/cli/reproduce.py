"""Prints the SSIU rows of Table I as the paper has them and as computed here, and which cells agree.

ssiu reproduce                                     the authors' weights, every scale and test set
ssiu reproduce --scale 4 --sets Set5 Set14 --weights ours

Missing weights and test sets are downloaded first (see ssiu download); what is not available is named at the end, after
everything else is computed. Writes a table under both protocols, JSON and a page into results/reproduce_authors or
_ours. After an interruption finished cells are kept. Manga109, which you have to apply for, is left out if it is
missing and --sets does not name it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ssiu.cli.check import raise_listed
from ssiu.cli.console import command_given, command_parser
from ssiu.config.load import make_config
from ssiu.data.catalog import CATALOG_FILE, SETS, TEST_SETS, Catalog, known_name, read_catalog, usual_name
from ssiu.data.layouts import set_folders
from ssiu.data.test_sets import BenchmarkSet, load_test_set, refuse_twice
from ssiu.device import keep_freed_memory, select_device, set_arithmetic
from ssiu.download.sources import by_hand, obtain_sets, obtain_weights, require_released
from ssiu.errors import ConfigError, MissingInputError, SSIUError
from ssiu.files import make_folder, nonempty_path
from ssiu.inference.complexity import network_size
from ssiu.models.base import SRNetwork
from ssiu.progress import log_to_console
from ssiu.report.paper.reproduce import (
    MODEL,
    CellResult,
    reproduction_table,
    score_cell,
    write_reproduction,
)
from ssiu.report.paper.rows import Row, published_rows
from ssiu.report.paper.table1 import table1
from ssiu.weights.formats import read_weights, released_name
from ssiu.weights.load import network_of
from ssiu.weights.shipped import places, shipped_file, weights_folder


@contextmanager
def noting(problems: list[SSIUError]) -> Iterator[None]:
    """What goes wrong inside is kept for the end."""
    try:
        yield
    except SSIUError as error:
        problems.append(error)


def weights_of(kind: str, scale: int, catalog: Catalog) -> Path:
    """The authors' file, downloaded where it is missing and never another one, or ours."""
    name = released_name(scale) if kind == "authors" else f"{MODEL}_x{scale}.safetensors"
    path = shipped_file(name)
    if kind == "ours":
        if path is None:
            looked = ", ".join(str(place.parent) for place in places(name))
            raise MissingInputError(f"{name} is in none of {looked}; clone the repository again")
        return path
    if path is None:
        try:
            path = obtain_weights(catalog, weights_folder(), scale)
        except SSIUError as error:
            raise type(error)(f"{error}; or put {name} into {weights_folder()} yourself") from None
    require_released(catalog, path, scale)
    return path


def asked_sets(asked: Sequence[str] | None, data_path: Path) -> list[str]:
    """The names of the sets, in our spelling; Manga109 only where it is there or was asked for."""
    names = list(dict.fromkeys(known_name(name) for name in asked or TEST_SETS))
    for name in names:
        if usual_name(name) not in TEST_SETS:
            raise ConfigError(f"--sets {name}: the paper's sets are {', '.join(TEST_SETS)}, a copy of one 'Set5 mod12'")
    return [name for name in names if asked or not SETS[name].page or set_folders(data_path, name)]


def get_sets(
    names: Sequence[str], data_path: Path, scales: Sequence[int], catalog: Catalog, problems: list[SSIUError]
) -> dict[int, list[BenchmarkSet]]:
    """The sets by scale, downloaded where they are missing; those that cannot be had become problems."""
    absent = [name for name in names if set_folders(data_path, name) is None]
    if downloads := [name for name in absent if name in SETS and not SETS[name].page]:
        with noting(problems):
            obtain_sets(catalog, downloads, data_path, scales)
    for name in absent:
        if set_folders(data_path, name) is None:
            how = by_hand(usual_name(name), data_path, scales)
            problems.append(MissingInputError(f"{name} is not in {data_path.absolute()}: {how}"))
    found: dict[int, list[BenchmarkSet]] = {scale: [] for scale in scales}
    for scale in scales:
        for name in names:
            if set_folders(data_path, name):
                with noting(problems):
                    found[scale].append(load_test_set(data_path, name, scale))
        refuse_twice("--sets", found[scale])
    return found


def row_of(cells: Sequence[CellResult], scale: int, weights: Path, network: SRNetwork) -> Row:
    """Our numbers as a row of Table I."""
    parameters, macs = network_size(network)
    means = {protocol: {c.set_name: c.ours[protocol] for c in cells} for protocol in ("standard", "official")}
    return Row(
        f"{MODEL}, here", scale, weights.name, means, params_k=parameters / 1e3, flops_g=(macs or math.nan) / 1e9
    )


def main(argv: Sequence[str]) -> None:
    parser = command_parser("reproduce", __doc__)
    parser.add_argument("--scale", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3, 4], metavar="S")
    parser.add_argument("--sets", nargs="+", metavar="SET", help=f"default: {', '.join(TEST_SETS)}")
    parser.add_argument("--weights", choices=("authors", "ours"), default="authors")
    parser.add_argument("--data", type=Path, default=Path("data"), help="your data_path; default: data")
    parser.add_argument("--output", type=nonempty_path, metavar="DIR", help="default: results/reproduce_{authors,ours}")
    parser.add_argument("--sources", type=Path, default=CATALOG_FILE, metavar="FILE", help="see ssiu download")
    args = parser.parse_args(argv)
    log_to_console()
    catalog, scales = read_catalog(args.sources), sorted(set(args.scale))
    problems: list[SSIUError] = []
    test_sets = get_sets(asked_sets(args.sets, args.data), args.data, scales, catalog, problems)
    paths: dict[int, Path] = {}
    for scale in scales:
        with noting(problems):
            paths[scale] = weights_of(args.weights, scale, catalog)
    if not any(test_sets[scale] for scale in paths):
        raise_listed(problems)
    output = make_folder(args.output or Path("results") / f"reproduce_{args.weights}")
    config = make_config({})
    device = select_device(config.device, config.gpu_ids)
    keep_freed_memory()
    set_arithmetic("fp32", config.deterministic)

    cells: list[CellResult] = []
    tables = []
    facts = {"command": command_given("reproduce", argv)}
    for scale, path in paths.items():
        weights = read_weights(path)
        network = network_of(weights, device, scale, MODEL)
        rows = []
        for each in test_sets[scale]:
            with noting(problems):
                rows.append(score_cell(output / "cells", network, weights, each, device))
        cells += rows
        facts[f"weights x{scale}"] = f"{weights.path} (sha256 of the tensors {weights.sha256[:12]})"
        tables += table1(scale, [*published_rows(scale), row_of(rows, scale, weights.path, network)])
    facts["computed with"] = "; ".join(dict.fromkeys(each.computed_with for each in cells))
    scored = {usual_name(each.set_name) for each in cells}
    absent = [name for name in TEST_SETS if not args.sets and name not in scored]
    table = reproduction_table(cells, absent, authors=args.weights == "authors")
    write_reproduction(output, table, cells, facts, tables)
    print(table.text())
    print(*(f"{key}: {value}" for key, value in facts.items()), f"look at {output / 'reproduce.html'}", sep="\n")
    raise_listed(problems)

"""Prints Table I of the paper with bicubic and your own runs, one table per protocol.

Runs of the paper's methods, such as SAFMN with its authors' weights, are below the paper's rows, and again in a table
of the differences.

ssiu table --data data results/*/summary.json --output results/table1
ssiu table --scale 4 "my net"=results/mine_best_x4/summary.json IMDN=imdn.json
ssiu table --scale 4 'mine=logs/study/whole_seed*/results/test/summary.json'      several seeds, one row
"""

from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, named_path, terminal_width
from ssiu.errors import MissingInputError
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.pages import encoded, tables_page
from ssiu.report.paper.rows import (
    bicubic_row,
    in_order,
    measured_rows,
    published_rows,
    result_rows,
    rows_csv,
    set_names,
)
from ssiu.report.paper.table1 import recomputed_table, table1


def main(argv: Sequence[str]) -> None:
    parser = command_parser("table", __doc__)
    parser.add_argument("results", nargs="*", metavar="[NAME=]JSON", help="of ssiu test or ssiu score, one row each")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="default: the runs' scales, or all without runs")
    parser.add_argument("--data", type=Path, help="your data_path, for bicubic; default: data, if it is there")
    parser.add_argument(
        "--output", type=nonempty_path, metavar="DIR", help="also write table1_x{s}.md, .csv, .tex and .html"
    )
    args = parser.parse_args(argv)
    if args.data and not args.data.is_dir():
        raise MissingInputError(f"--data {args.data}: no such folder; expected your data_path, with benchmark/ in it")
    if args.output:
        make_folder(args.output)
    runs = result_rows(map(named_path, args.results))
    for scale in [args.scale] if args.scale else sorted({row.scale for row in runs}) or (2, 3, 4):
        ours = [row for row in runs if row.scale == scale]
        bicubic, absent = bicubic_row(args.data or Path("data"), scale, set_names(ours))
        rows = in_order([bicubic, *published_rows(scale), *measured_rows(scale), *ours])
        tables = table1(scale, rows, absent)
        if recomputed := recomputed_table(scale, rows):
            tables.append(recomputed)
        for table in tables:
            print(table.text(terminal_width()), end="\n\n")
        if args.output:
            formats = {
                "md": encoded("\n".join(table.markdown() for table in tables)),
                "csv": encoded(rows_csv(rows)),
                "tex": encoded("\n".join(table.latex() for table in tables)),
                "html": tables_page(f"Table I, x{scale}", tables),
            }
            for suffix, content in formats.items():
                write_atomically(args.output / f"table1_x{scale}.{suffix}", content)

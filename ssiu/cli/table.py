"""Table I of the paper with bicubic and your own runs in it, protocols apart.

Runs of the paper's own methods, such as SAFMN or Omni-SR by their authors' weights (docs/external_networks.md),
stand below the paper's rows, and once more in a table of the differences.

ssiu table --data data results/*/summary.json --output results/table1
ssiu table --scale 4 "my net"=results/mine_best_x4/summary.json IMDN=imdn.json
"""

from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, named_path, terminal_width
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.pages import encoded, tables_page
from ssiu.report.paper.rows import bicubic_row, in_order, published_rows, result_rows, rows_csv, set_names
from ssiu.report.paper.table1 import anew_table, table1


def main(argv: Sequence[str]) -> None:
    parser = command_parser("table", __doc__)
    parser.add_argument("results", nargs="*", metavar="[NAME=]JSON", help="of test.py or score.py, one row each")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="default: all three")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data_path with benchmark/, for bicubic")
    parser.add_argument(
        "--output", type=nonempty_path, metavar="DIR", help="also write table1_x{s}.md, .csv, .tex and .html"
    )
    args = parser.parse_args(argv)
    if args.output:
        make_folder(args.output)
    runs = result_rows(map(named_path, args.results))
    for scale in (args.scale,) if args.scale else (2, 3, 4):
        ours = [row for row in runs if row.scale == scale]
        bicubic, absent = bicubic_row(args.data, scale, set_names(ours))
        rows = in_order([bicubic, *published_rows(scale), *ours])
        tables = [table for table in (table1(scale, rows, absent), anew_table(scale, rows)) if table]
        for table in tables:
            print(table.text(terminal_width()), end="\n\n")
        if args.output:
            formats = {
                "md": encoded("\n".join(table.markdown() for table in tables)),
                "csv": encoded(rows_csv(rows)),
                "tex": encoded("\n".join(table.latex() for table in tables)),
                "html": tables_page(tables[0].title, tables),
            }
            for suffix, content in formats.items():
                write_atomically(args.output / f"table1_x{scale}.{suffix}", content)

"""Table I of the paper with bicubic and your own runs in it, protocols apart.

python scripts/reproduce_table.py --data data results/*/summary.json --output results/table1
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ssiu.errors import run_cli
from ssiu.files import make_folder, write_atomically
from ssiu.report.table1 import bicubic_row, published_rows, result_rows, rows_csv, set_names, table1

PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>:root{{color-scheme:light dark}}'
    "body{{font:1rem system-ui,sans-serif}}td,th{{padding:.2rem .6rem;text-align:right;white-space:nowrap}}"
    "td:first-child{{text-align:left}}</style><h1>{title}</h1>{table}{notes}</html>\n"
)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, metavar="JSON", help="of test.py or score.py, one row each")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="default: all three")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data_path with benchmark/, for bicubic")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write table1_x{s}.md, .csv, .tex and .html")
    args = parser.parse_args(argv)
    if args.output:
        make_folder(args.output)
    runs = result_rows(args.results)
    for scale in (args.scale,) if args.scale else (2, 3, 4):
        ours = [row for row in runs if row.scale == scale]
        bicubic, absent = bicubic_row(args.data, scale, set_names(ours))
        rows = [bicubic, *published_rows(scale), *ours]
        table = table1(scale, rows, absent)
        print(table.text(), end="\n\n")
        if args.output:
            notes = "".join(f"<p>{note}</p>" for note in table.notes)
            page = PAGE.format(title=table.title, table=table.html(), notes=notes)
            formats = {"md": table.markdown(), "csv": rows_csv(rows), "tex": table.latex(), "html": page}
            for suffix, text in formats.items():
                write_atomically(args.output / f"table1_x{scale}.{suffix}", text.encode())


if __name__ == "__main__":
    run_cli(main)

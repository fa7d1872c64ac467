"""Measures on this machine what the documentation quotes.

python scripts/benchmark.py data
python scripts/benchmark.py data --threads 4 8 --markdown data.md
python scripts/benchmark.py complexity --config configs/SSUFSR_light_x2.yml
python scripts/benchmark.py inference --size 120 80 --size 320 180 --json speed.json
python scripts/benchmark.py train batch_size=8 patch_size=192
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from ssiu.bench import complexity, data, inference, train
from ssiu.errors import run_cli
from ssiu.files import write_atomically
from ssiu.report.tables import Table

SUBCOMMANDS = {"complexity": complexity, "data": data, "inference": inference, "train": train}
"""Name -> module with ``add_arguments(parser)`` and ``run(arguments) -> list[Table]``."""


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(required=True, metavar="WHAT", help=", ".join(SUBCOMMANDS))
    for name, module in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to FILE")
        subparser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables to FILE, as records")
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    tables = arguments.run(arguments)
    print("\n\n".join(table.text() for table in tables))
    if arguments.markdown:
        write_atomically(arguments.markdown, "\n".join(table.markdown() for table in tables).encode())
    if arguments.json:
        write_atomically(arguments.json, json.dumps(_records(tables), indent=1).encode())


def _records(tables: list[Table]) -> dict:
    """Every row by the titles of its columns, and what it was measured with."""
    software = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    kept = []
    for table in tables:
        rows = [dict(zip(table.header, map(_number, row), strict=True)) for row in table.rows]
        kept.append({"title": table.title, "rows": rows, "notes": table.notes})
    return {**software, "tables": kept}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    run_cli(main)

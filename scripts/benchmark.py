"""Measures on this machine what the documentation quotes.

python scripts/benchmark.py data
python scripts/benchmark.py data --threads 4 8 --markdown data.md
python scripts/benchmark.py complexity --config configs/SSUFSR_light_x2.yml
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ssiu.bench import complexity, data, inference
from ssiu.errors import run_cli
from ssiu.files import write_atomically

SUBCOMMANDS = {"complexity": complexity, "data": data, "inference": inference}
"""Name -> module with ``add_arguments(parser)`` and ``run(arguments) -> list[Table]``."""


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(required=True, metavar="WHAT", help=", ".join(SUBCOMMANDS))
    for name, module in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to FILE")
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    tables = arguments.run(arguments)
    print("\n\n".join(table.text() for table in tables))
    if arguments.markdown:
        write_atomically(arguments.markdown, "\n".join(table.markdown() for table in tables).encode())


if __name__ == "__main__":
    run_cli(main)

"""Measures speed, memory and complexity on this machine.

ssiu benchmark data
ssiu benchmark data --threads 4 8 --markdown data.md
ssiu benchmark complexity --config configs/SSUFSR_light_x2.yml
ssiu benchmark inference --size 120 80 --size 320 180 --json speed.json
ssiu benchmark train batch_size=8 patch_size=192
ssiu benchmark gpu --minutes 10
"""

import json
import platform
from collections.abc import Sequence

import torch

from ssiu.bench import complexity, data, gpu, inference, train
from ssiu.cli.console import command_parser
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.tables import Table

SUBCOMMANDS = {"complexity": complexity, "data": data, "gpu": gpu, "inference": inference, "train": train}
"""Name -> module with ``add_arguments(parser)`` and ``run(arguments) -> list[Table]``."""


def main(argv: Sequence[str]) -> None:
    parser = command_parser("benchmark", __doc__)
    subparsers = parser.add_subparsers(required=True, metavar="WHAT", help=", ".join(SUBCOMMANDS))
    for name, module in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.add_argument("--markdown", type=nonempty_path, metavar="FILE", help="also write the tables to FILE")
        subparser.add_argument(
            "--json", type=nonempty_path, metavar="FILE", help="also write the tables to FILE, as records"
        )
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    for path in filter(None, (arguments.markdown, arguments.json)):
        make_folder(path.parent)
    tables = arguments.run(arguments)
    print("\n\n".join(table.text() for table in tables))
    if arguments.markdown:
        write_atomically(arguments.markdown, "\n".join(table.markdown() for table in tables).encode())
    if arguments.json:
        write_atomically(arguments.json, json.dumps(_records(tables), indent=1).encode())


def _records(tables: list[Table]) -> dict:
    """Every row by the titles of its columns, and what it was measured with."""
    software = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    kept = [{"title": table.title, "rows": table.records(), "notes": table.notes} for table in tables]
    return {**software, "tables": kept}

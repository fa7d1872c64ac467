"""Turns an option file of BasicSR into a config and reports what became of every line.

ssiu adopt options/train/train_SMFANet_x4.yml --arch basicsr/archs/smfanet_arch.py --output smfanet_x4.yml
"""

from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser
from ssiu.config.basicsr.adopt import adopt
from ssiu.errors import OutputError
from ssiu.files import make_folder, nonempty_path, write_atomically


def main(argv: Sequence[str]) -> None:
    parser = command_parser("adopt", __doc__)
    parser.add_argument("options", type=nonempty_path, help="the option file")
    parser.add_argument(
        "--arch",
        type=nonempty_path,
        metavar="FILE.py",
        help="the file with the class of network_g; default: found in archs/*_arch.py of the same repository",
    )
    parser.add_argument("--output", type=nonempty_path, metavar="my.yml", required=True, help="the config to write")
    arguments = parser.parse_args(argv)
    adopted = adopt(arguments.options, arguments.arch)
    write_new(arguments.output, adopted.to_yaml())
    width = len("without counterpart")
    for line in adopted.lines:
        print(f"{line.outcome:<{width}}  {line}")
    counts = ", ".join(f"{adopted.count(each)} {each}" for each in ("carried", "changed", "without counterpart"))
    print(f"{len(adopted.lines)} lines: {counts}")
    command = "train" if "max_iterations" in adopted.values else "test"
    print(f"wrote {arguments.output}; python -m ssiu {command} --config {arguments.output}")


def write_new(path: Path, text: str) -> None:
    """A file that was not there before: what is may have been edited. OutputError (73) otherwise."""
    make_folder(path.parent)
    try:
        write_atomically(path, text.encode(), overwrite=False)
    except FileExistsError:
        raise OutputError(f"{path} already exists and may have been edited; choose another --output") from None

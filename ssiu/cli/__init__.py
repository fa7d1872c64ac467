"""The command line: ``ssiu COMMAND``, which is ``python -m ssiu COMMAND`` in a clone.

A module here is a command: its docstring is the help, ``main(argv)`` does it and returns an exit code or nothing.
"""

import importlib
import sys
from collections.abc import Sequence

from ssiu import __version__
from ssiu.cli.console import run_cli

COMMANDS = {
    "train": "train a network from a YAML config",
    "adopt": "make a config of an option file of BasicSR",
    "test": "score a network on the test sets of a config",
    "upscale": "upscale your own images",
    "download": "get test sets, DF2K and the authors' weights, verified",
    "reproduce": "print Table I of the paper again: fetch, score, compare, write a page",
    "prepare": "make LR images exactly as MATLAB's imresize does",
    "check": "check data sets: counts, pairs, pixels, LR images",
    "score": "score a folder of SR images, whatever made them",
    "compare": "compare methods image by image: intervals, p, and what a set can show",
    "explain": "find out which protocol prints a PSNR and SSIM that a paper claims",
    "table": "print Table I of the paper with your runs in it",
    "study": "train and score variants with several seeds, and compare them",
    "figures": "draw comparisons, the trade-off, training curves, attribution maps",
    "benchmark": "measure speed, memory and complexity on this machine",
    "zoo": "list the weights that come with this, with their scores",
    "export": "convert weights: safetensors, ONNX, torch.export, the authors' format",
    "quickstart": "train a reduced SSIU on built-in photographs and score it, in minutes",
}

USAGE = "\n".join(
    [
        "usage: ssiu COMMAND [arguments]",
        "",
        "SSIU: train, evaluate and use lightweight super-resolution networks.",
        "",
        *(f"  {name:<11} {summary}" for name, summary in COMMANDS.items()),
        "",
        "ssiu COMMAND --help shows the arguments and an example; --debug shows the traceback of an error;",
        "ssiu --version shows the version.",
        "for example: ssiu upscale photo.jpg --output photo_x4.png",
    ]
)


def main(argv: Sequence[str]) -> int | None:
    """Runs the command named by the first argument."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return None if argv else 2
    if argv[0] == "--version":
        print(f"ssiu {__version__}")
        return None
    name, *rest = argv
    if name not in COMMANDS:
        print(USAGE, f"\nerror: '{name}' is not a command of ssiu", sep="\n", file=sys.stderr)
        return 2
    return importlib.import_module(f"ssiu.cli.{name}").main(rest)  # one of COMMANDS: each imports what it needs


def entry_point(*command: str) -> None:
    """The installed ``ssiu``; ``command`` is what a script of one command puts before its arguments."""
    run_cli(main, [*command, *sys.argv[1:]])

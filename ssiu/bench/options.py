"""What subcommands take from the command line alike, checked where argparse can name it."""

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of a whole number from ``minimum`` on."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number, {minimum} or more, got '{text}'")
        return int(text)

    return number


def some_of(known: list[str]) -> Callable[[str], list[str]]:
    """The type of a list of names with commas between them."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got '{name}'")
        return text.split(",")

    return names


def add_race_options(parser: argparse.ArgumentParser, variants: list[str], turns: int) -> None:
    """The network, who takes part and for how long."""
    parser.add_argument("--config", default="configs/SSUFSR_light_x4.yml", help="default: the paper's x4")
    parser.add_argument("--turns", type=at_least(1), default=turns, help=f"default {turns}")
    parser.add_argument(
        "--variants",
        type=some_of(variants),
        metavar="A,B",
        help=f"of {','.join(variants)}; default: all, but on a CPU none that takes minutes of compiling",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as scale=2 device=cuda")

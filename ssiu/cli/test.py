"""Scores a network on the test sets of a YAML config and writes the images, the numbers and a page to look at.

ssiu test --config configs/SSUFSR_light_x4.yml                    (python test.py in a clone)
ssiu test --config configs/SSUFSR_light_x4.yml 'eval_sets=[Set5]' pretrain=model_x4_290.pt --output results/theirs
ssiu test --config configs/SSUFSR_light_x4.yml --shown all --beside results/theirs
ssiu test --config configs/SSUFSR_light_x4.yml model=any pretrain=SAFMN_x4.pth          another method's
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_given, command_parser, terminal_width
from ssiu.config.load import load_config, refuse_options_that_are_keys
from ssiu.data.test_sets import load_test_sets
from ssiu.device import keep_freed_memory, select_device, set_arithmetic, warn_of_emulation
from ssiu.errors import ConfigError
from ssiu.evaluation.evaluate import check_sets
from ssiu.evaluation.metrics import KNOWN, PROTOCOLS
from ssiu.files import nonempty_path
from ssiu.progress import log_to_console
from ssiu.report.results import open_results, other_results, results_name, write_results
from ssiu.report.results_page import SHOWN
from ssiu.report.scored import score_network
from ssiu.weights.formats import read_weights
from ssiu.weights.hub import with_commits
from ssiu.weights.load import configured_weights, load_configured


def main(argv: Sequence[str]) -> None:
    parser = command_parser("test", __doc__)
    parser.add_argument("--config", required=True, help="YAML file; ssiu train --list-keys explains every key")
    parser.add_argument(
        "--output", type=nonempty_path, metavar="DIR", help="default: results/, named after the run or the weights"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    parser.add_argument(
        "--shown", type=_number_or_all, default=SHOWN, metavar="N|all", help="images of each set on the page; default 6"
    )
    parser.add_argument(
        "--float", dest="protocols", action="store_const", const=KNOWN, default=PROTOCOLS,
        help="also by the protocol float (docs/protocol.md)",
    )  # fmt: skip
    parser.add_argument("--beside", type=Path, metavar="DIR", help="also show the results of another run on the page")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file; --debug shows tracebacks"
    )
    refuse_options_that_are_keys(argv)
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.config, args.overrides)
    if not config.eval_sets:
        raise ConfigError("key 'eval_sets': empty, so there is nothing to test; name sets such as eval_sets=[Set5]")
    if not config.save_image and (args.beside or args.shown != SHOWN):
        raise ConfigError(
            "--beside and --shown put images on the page, which save_image=false leaves out; give one or the other"
        )
    log_to_console()
    test_sets = load_test_sets(config)
    check_sets(test_sets, saved=config.save_image)
    config = with_commits(config)
    weights = read_weights(configured_weights(config))  # once: a training run may replace the file
    folder = args.output or Path("results") / results_name(weights.path, config.scale)
    if args.beside and args.beside.resolve() == folder.resolve():
        raise ConfigError(
            f"--beside {args.beside}: this run writes there; name the results of another run, or --output"
        )
    other = args.beside and other_results(args.beside, test_sets)
    device = select_device(config.device, config.gpu_ids)
    warn_of_emulation(device, config.precision)
    keep_freed_memory()
    set_arithmetic(config.precision, config.deterministic)
    network = load_configured(config, weights)

    with open_results(folder, config, args.overwrite) as output:
        scored = score_network(config, network, weights, device, test_sets, output / "images", args.protocols)
        facts = scored.facts() | {"command": command_given("test", argv)}
        print(scored.table().text(terminal_width()))
        write_results(output, scored, facts, shown=args.shown, other=other)
    print(*(f"{key}: {value}" for key, value in facts.items()), f"look at {output / 'report.html'}", sep="\n")


def _number_or_all(text: str) -> int | None:
    """The number of images; None for all."""
    if text == "all":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}': expected a number of images or 'all'")
    return int(text)

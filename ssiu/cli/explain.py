"""Finds the protocols that print the PSNR and SSIM claimed for these images, or says that none known here does.

ssiu explain SR_DIR data/benchmark/Set5/HR --scale 4 --claimed 32.58/0.8998
ssiu explain --config configs/SSUFSR_light_x4.yml 'eval_sets=[Set5]' --claimed 32.64/0.9032

With --config a network makes the SR images, so protocols that score its raw output are tried, too. docs/explain.md says
what is tried and how far to trust a hit.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, terminal_width
from ssiu.config.load import load_config
from ssiu.data.test_sets import load_test_sets
from ssiu.device import keep_freed_memory, select_device, set_arithmetic
from ssiu.errors import ConfigError, counted
from ssiu.evaluation.evaluate import check_sets, super_resolved
from ssiu.evaluation.explain import Claim, Explanation, explain, known_protocols, means, protocols, read_claim
from ssiu.evaluation.measures import ScoredPair, measure
from ssiu.evaluation.metrics import Score, to_uint8
from ssiu.evaluation.score_folders import matched, read_match
from ssiu.images.parallel import cores, in_order
from ssiu.progress import Progress, log_to_console
from ssiu.report.tables import Cell, Number, Table
from ssiu.weights.formats import read_weights
from ssiu.weights.load import configured_weights, load_configured

MOST = 5  # explanations that are shown


def main(argv: Sequence[str]) -> None:
    parser = command_parser("explain", __doc__)
    parser.add_argument("inputs", nargs="*", metavar="SR_DIR HR_DIR", help="as for ssiu score; key=value with --config")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="of the images in SR_DIR")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="end of the file names in SR_DIR, such as _IMDN")
    parser.add_argument("--config", help="of a network instead of SR_DIR HR_DIR; one test set in eval_sets")
    parser.add_argument("--claimed", required=True, metavar="PSNR/SSIM", help="as it is printed, with all its digits")
    args = parser.parse_intermixed_args(argv)
    claim = read_claim(args.claimed)
    log_to_console()
    if args.config:
        if args.scale or args.suffix:
            raise ConfigError("--scale and --suffix are for SR_DIR; with --config give the key: scale=4")
        name, scale, count, pairs = upscaled(args.config, args.inputs)
    elif len(args.inputs) == 2 and args.scale:
        scale = args.scale
        name, count, pairs = in_folders(Path(args.inputs[0]), Path(args.inputs[1]), scale, args.suffix)
    else:
        raise ConfigError("expected SR_DIR HR_DIR --scale S, or --config FILE; ssiu explain --help has examples")
    raw = args.config is not None
    tried = protocols(scale, raw)
    measures = list(dict.fromkeys(protocol.measure for protocol in tried))
    images = []
    with Progress(total=count, unit="images", leave=False, disable=raw) as bar:  # a network shows its own
        for image in in_order(lambda pair: measure(pair, scale, measures), pairs, cores()):
            images.append(image)
            bar.update()
    scores = means(images, tried)
    found = explain(scores, tried, claim)
    print(_table(f"{args.claimed} of {name} x{scale}", found, claim, raw).text(terminal_width()), end="\n\n")
    rows = [[known, *_numbers(scores[protocol], claim)] for known, protocol in known_protocols(raw).items()]
    print(Table(f"What known protocols give, {counted(count, 'image')}", ["", "PSNR", "SSIM"], rows).text())


def in_folders(sr: Path, hr: Path, scale: int, suffix: str) -> tuple[str, int, Iterable[ScoredPair]]:
    """The set's name, how many images it has, and the images."""
    name, matches = matched(sr, hr, scale, suffix)
    return name, len(matches), (ScoredPair(*read_match(match)) for match in matches)


def upscaled(path: str, overrides: Sequence[str]) -> tuple[str, int, int, Iterable[ScoredPair]]:
    """The name of the config's one set, the scale, how many images there are, and the images, made as by `test.py`."""
    config = load_config(path, overrides)
    if len(config.eval_sets) != 1:
        raise ConfigError("key 'eval_sets': a printed cell is of one set; name it: eval_sets=[Set5]")
    test_sets = load_test_sets(config)
    check_sets(test_sets, saved=False)
    keep_freed_memory()
    set_arithmetic(config.precision, config.deterministic)
    device = select_device(config.device, config.gpu_ids)
    network = load_configured(config, read_weights(configured_weights(config)), device)
    images = super_resolved(
        network, test_sets, precision=config.precision, tile=config.tile, self_ensemble=config.self_ensemble
    )
    pairs = (ScoredPair(to_uint8(image.sr), image.hr, image.sr.cpu()) for image in images)
    return test_sets[0].name, config.scale, len(test_sets[0]), pairs


def _table(title: str, found: Sequence[Explanation], claim: Claim, raw: bool) -> Table:
    """The explanations, nearest first."""
    notes = [
        "by chance: of made-up cells within 0.3 dB and 0.003 of this one, so many are printed by a protocol as near to "
        "a known one."
    ]
    if not found:
        notes = ["No protocol tried prints this cell: other weights, other images, or a choice not known here."]
    if len(found) > MOST:
        notes.append(f"{len(found) - MOST} more print it that are as far or farther from a known one.")
    if not raw:
        notes.append("On 8-bit images; --config also tries what is scored without clamping or rounding.")
    rows: list[list[Cell]] = []
    for each in found[:MOST]:
        others = len(each.protocols) - len(each.nearest)
        same = f"; {others} that change more come to the same here" if others else ""
        rows.append([" = ".join(each.nearest) + same, *_numbers(each.score, claim), Number(100 * each.chance, ".1f")])
    return Table(title, ["printed by", "PSNR", "SSIM", "by chance, %"], rows or [["none", "-", "-", "-"]], tuple(notes))


def _numbers(score: Score, claim: Claim) -> list[Cell]:
    return [Number(value, f".{places + 2}f") for value, places in zip(score, claim.digits, strict=True)]

"""Lists the weights that come with this project, with their scores.

ssiu zoo
ssiu zoo --update --data data        after a change of weights: measures them and updates zoo.json, cards and tables
"""

from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, terminal_width
from ssiu.config.load import load_config
from ssiu.data.test_sets import load_test_sets
from ssiu.device import keep_freed_memory, select_device, set_arithmetic
from ssiu.errors import ConfigError
from ssiu.evaluation.evaluate import evaluate
from ssiu.files import write_atomically
from ssiu.inference.networks import Bicubic
from ssiu.progress import log_to_console
from ssiu.report.cards import TEST_CONFIGS, as_scores, card, computed, kept, with_table
from ssiu.report.tables import Cell, Number, Table, cell
from ssiu.weights.formats import read_weights
from ssiu.weights.load import network_of
from ssiu.weights.zoo import Described, Zoo, read_zoo

SETS = "Set5,Set14,B100"


def zoo_table(zoo: Zoo) -> Table:
    rows: list[list[Cell]] = []
    names = list(dict.fromkeys(name for each in zoo.weights for name in each.scores.get("standard", {})))
    for each in zoo.weights:
        scores = as_scores(each.scores.get("standard", {}))
        cells = [cell(scores.get(name), "standard") for name in names]
        rows.append([each.file, f"{each.architecture} x{each.scale}", Number(each.parameters, ",d"), *cells])
    return Table("weights; PSNR dB / SSIM (standard)", ["file", "network", "parameters", *names], rows)


def update(path: Path, zoo: Zoo, data: Path | None, files: Sequence[str]) -> None:
    """What can be computed of ``files``, or of all, is written into `zoo.json` at ``path``, cards and README's table.

    Scores are measured on the sets of ``data``, where it is given; each file's are kept as soon as they are there.
    Raises ConfigError (78) where those of a file would be another network's.
    """
    for each in zoo.weights:
        if files and each.file not in files:
            continue
        weights = read_weights(path.with_name(each.file))
        network = network_of(weights)
        if each.scores and weights.sha256 != each.tensors_sha256 and not data:
            raise ConfigError(f"{weights.path} has changed since it was measured; add --data DIR, which has benchmark")
        for key, value in computed(network, weights.path.read_bytes(), weights.sha256).items():
            setattr(each, key, value)
        if data:
            config = TEST_CONFIGS[each.architecture].format(each.scale)
            test_sets = load_test_sets(load_config(config, [f"data_path={data}", f"eval_sets=[{SETS}]"]))
            evaluation = evaluate(network.to(select_device("auto")), test_sets)
            each.scores = {protocol: kept(means) for protocol, means in evaluation.means.items()}
            bicubic = evaluate(Bicubic(each.scale), test_sets, protocols=("standard",))
            zoo.bicubic[each.scale] = kept(bicubic.means["standard"])
            write(path, zoo)
    write(path, zoo)


def write(path: Path, zoo: Zoo) -> None:
    """`zoo.json`, a card beside each file, and README's table."""
    texts = {path: zoo.to_json()} | {path.with_name(f"{each.name}.md"): zoo_card(each, zoo) for each in zoo.weights}
    readme = path.parents[1] / "README.md"
    if readme.is_file():
        texts[readme] = with_table(readme.read_text(encoding="utf-8"), zoo)
    for target, text in texts.items():
        write_atomically(target, text.encode())


def zoo_card(weights: Described, zoo: Zoo) -> str:
    return card(weights, zoo.data_sets, zoo.data_remark, zoo.bicubic.get(weights.scale, {}))


def main(argv: Sequence[str]) -> None:
    parser = command_parser("zoo", __doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="files that --update is for; default: all")
    parser.add_argument("--update", action="store_true", help="compute and write what zoo.json says about the files")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your data_path: --update measures the scores, too")
    args = parser.parse_args(argv)
    path, zoo = read_zoo()
    if unknown := sorted(set(args.files) - {each.file for each in zoo.weights}):
        raise ConfigError(f"{path} has no {unknown[0]}; describe it there first")
    if args.update:
        log_to_console()
        keep_freed_memory()
        set_arithmetic("fp32")
        update(path, zoo, args.data, args.files)
    print(zoo_table(zoo).text(terminal_width()))

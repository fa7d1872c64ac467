"""Scores a network on the test sets of a YAML config and writes the images, the numbers and a page to look at.

ssiu test --config configs/SSUFSR_light_x4.yml                    (python test.py in a clone)
ssiu test --config configs/SSUFSR_light_x4.yml 'eval_sets=[Set5]' pretrain=model_x4_290.pt --output results/theirs
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, log_to_console
from ssiu.config import load_config
from ssiu.data.test_sets import load_test_sets
from ssiu.device import describe, select_device, set_arithmetic
from ssiu.errors import ConfigError
from ssiu.evaluation.evaluate import Bicubic, evaluate
from ssiu.models import MODELS, build_model
from ssiu.report.results import open_results, write_results
from ssiu.report.tables import comparison
from ssiu.weights import find_weights, load_weights


def main(argv: Sequence[str]) -> None:
    parser = command_parser("test", __doc__)
    parser.add_argument("--config", required=True, help="YAML file; ssiu/config.py documents every key")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/{model}_x{scale}")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file; --debug shows tracebacks"
    )
    args = parser.parse_intermixed_args(argv)
    config = load_config(args.config, args.overrides)
    if not config.eval_sets:
        raise ConfigError("key 'eval_sets': empty, so there is nothing to test; name sets such as eval_sets=[Set5]")
    log_to_console()
    name, scale = MODELS[config.model].__name__, config.scale
    test_sets = load_test_sets(config)
    weights_path = Path(config.pretrain) if config.pretrain else find_weights(config.model, scale)
    device = select_device(config.device, config.gpu_ids)
    set_arithmetic(config.precision, config.deterministic)
    model = build_model(config).to(device).eval()
    weights = load_weights(model, weights_path)
    output = open_results(args.output or Path("results") / f"{name}_x{scale}", config)

    evaluation = evaluate(
        model, test_sets, device=device, precision=config.precision, tile=config.tile,
        self_ensemble=config.self_ensemble, save_to=output / "images" if config.save_image else None,
    )  # fmt: skip
    bicubic = evaluate(Bicubic(scale), test_sets, protocols=("standard",))
    sha256 = weights.sha256
    summary = evaluation.summary(model=name, scale=scale, checkpoint=str(weights_path), weights_sha256=sha256)
    facts = {
        "weights": f"{weights_path} (sha256 {sha256[:12]})",
        "run": f"{config.precision} on {describe(device)}, tile {config.tile}"
        + (", x8 self-ensemble" if config.self_ensemble else ""),
        "command": shlex.join(["python", "test.py", *argv]).encode(errors="backslashreplace").decode(),
    }
    table = comparison(f"{name} x{scale}", name, scale, evaluation, bicubic)
    write_results(output, table, facts, summary, evaluation, bicubic, test_sets)
    print(table.text())
    print(*(f"{key}: {value}" for key, value in facts.items()), f"look at {output / 'report.html'}", sep="\n")

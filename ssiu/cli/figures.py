"""Draws visual comparisons, the trade-off of Table I, training curves and local attribution maps.

ssiu figures compare --data data --set Set5 --image butterfly --scale 4 SSIU=results/SSIU_x4/images/Set5
ssiu figures tradeoff --scale 4 --run mine=results/mine_best_x4/summary.json --output tradeoff.pdf
ssiu figures curves logs/SSUFSR_x4 mine=logs/first+logs/continued --output curves.png
ssiu figures lam --lr image.png --box 120,100,32,32 SSIU=pretrain_model/SSIU_x4.safetensors
ssiu figures lam --lr image.png --box 120,100,32,32 SSIU=SSIU_x4.safetensors mine=last.pt model=my_net.py:MyNet

figures compare draws crops of one image; ssiu compare compares the scores of whole test sets.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from ssiu.cli.console import command_parser, named_path, named_paths, without_model
from ssiu.config.load import load_config
from ssiu.data.layouts import list_images
from ssiu.data.test_sets import load_test_set
from ssiu.errors import BadInputError, MissingInputError, one_line
from ssiu.evaluation.lam import attribute
from ssiu.evaluation.score_folders import sr_names
from ssiu.files import nonempty_path
from ssiu.images.bicubic import imresize
from ssiu.images.io import read_rgb
from ssiu.report.figures import (
    check_target,
    compare_figure,
    curves_figure,
    gain_box,
    joined,
    lam_figure,
    read_metrics,
    save_figure,
    tradeoff_figure,
)  # fmt: skip
from ssiu.report.paper.rows import result_rows
from ssiu.weights.formats import read_weights
from ssiu.weights.load import load_ours_or

BOX_PIXELS = 64 * 64


def compare(args: argparse.Namespace) -> None:
    test_set = load_test_set(args.data, args.set, args.scale)
    index = next((index for index, pair in enumerate(test_set.pairs) if pair.name == args.image), None)
    if index is None:
        raise MissingInputError(f"{test_set.name} has no image '{args.image}'")
    _, lr, hr = test_set[index]
    images = {"bicubic": imresize(lr, scale=args.scale)}
    for name, folder in named_paths(args.methods).items():
        there = list_images(folder)
        path = next((there[stem] for stem in sr_names(args.image, args.scale) if stem in there), None)
        if path is None:
            raise MissingInputError(f"{folder} has no image {' or '.join(sr_names(args.image, args.scale))}")
        images[name] = read_rgb(path)
        if images[name].shape != hr.shape:
            sizes = ["{1}x{0}".format(*image.shape) for image in (images[name], hr)]
            raise BadInputError(f"{path} is {sizes[0]} but HR of {args.image} is {sizes[1]}; expected equal sizes")
    box = args.box or gain_box(hr, images, BOX_PIXELS)
    figure = compare_figure(one_line(f"{test_set.name}/{args.image}, x{args.scale}"), lr, hr, images, box, args.scale)
    save_figure(args.output, figure)


def tradeoff(args: argparse.Namespace) -> None:
    runs = result_rows(map(named_path, args.run))
    for row in runs:
        if row.scale != args.scale:
            raise BadInputError(f"{row.method} is of x{row.scale}; the figure is of x{args.scale}")
    save_figure(args.output, tradeoff_figure(args.scale, args.set, runs))


def curves(args: argparse.Namespace) -> None:
    runs = {}
    for name, path in named_paths(args.runs).items():
        parts = [path] if path.exists() else map(Path, str(path).split("+"))
        runs[name] = joined([read_metrics(part) for part in parts])
    save_figure(args.output, curves_figure(runs, args.x))


def lam(args: argparse.Namespace) -> None:
    lr = read_rgb(args.lr)
    x = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    own = load_config(None, args.model_keys) if args.model_keys else None
    models = {
        name: load_ours_or(own, read_weights(path)).requires_grad_(False)
        for name, path in named_paths(args.models).items()
    }
    scale = next(iter(models.values())).scale
    if any(model.scale != scale for model in models.values()):
        raise BadInputError("the models have different scales, so they share no box; draw a figure for each")
    found = {name: attribute(model, x, args.box) for name, model in models.items()}
    save_figure(args.output, lam_figure(lr, args.box, scale, found))
    for name, attribution in found.items():
        print(
            f"{name}: diffusion index {attribution.diffusion_index:.3f}; the attributions add up to "
            f"the change within {100 * attribution.error:.2f}%"
        )


def _box(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected left,top,width,height in pixels") from None
    return left, top, width, height


def main(argv: Sequence[str]) -> None:
    parser = command_parser("figures", __doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("compare", help="Fig. 5-8: an image with a box, and crops of each method")
    command.add_argument("methods", nargs="*", metavar="NAME=DIR", help="folders with SR images")
    command.add_argument("--data", type=Path, default=Path("data"), help="data_path with the test sets")
    command.add_argument("--set", default="Set5")
    command.add_argument("--image", required=True, help="name of the image without suffix")
    command.add_argument("--scale", type=int, choices=(2, 3, 4), required=True)
    command.add_argument(
        "--box", type=_box, metavar="L,T,W,H", help="HR pixels; default: where the last method gains most"
    )
    command.set_defaults(draw=compare, output="compare.png")

    command = commands.add_parser("tradeoff", help="Fig. 1: PSNR over multiply-accumulates, from Table I")
    command.add_argument("--scale", type=int, choices=(2, 3, 4), default=4)
    command.add_argument("--set", default="Manga109")
    command.add_argument("--run", nargs="+", default=[], metavar="[NAME=]JSON", help="summary.json of your runs")
    command.set_defaults(draw=tradeoff, output="tradeoff.png")

    command = commands.add_parser("curves", help="loss and PSNR of training runs")
    command.add_argument(
        "runs", nargs="+", metavar="[NAME=]RUN[+RUN]", help="run folders or metrics.jsonl; A+B: a run, continued"
    )
    command.add_argument("--x", choices=("step", "time"), default="step", help="time: minutes of training")
    command.set_defaults(draw=curves, output="curves.png")

    command = commands.add_parser("lam", help="Fig. 9: which LR pixels a box of the SR image was made from")
    command.add_argument(
        "models", nargs="+", metavar="[NAME=]WEIGHTS", help="weights; those of your own network are for model=..."
    )
    command.add_argument("--lr", type=Path, required=True, help="the LR image; a larger one takes longer")
    command.add_argument("--box", type=_box, metavar="L,T,W,H", required=True, help="SR pixels")
    command.set_defaults(draw=lam, output="lam.png")

    for command in commands.choices.values():
        command.add_argument("--output", type=nonempty_path, metavar="FILE", help=".png, .pdf or .svg")
    argv, model_keys = without_model(argv)
    args = parser.parse_args(argv)
    args.model_keys = model_keys
    check_target(args.output)
    args.draw(args)
    print(f"look at {args.output}")

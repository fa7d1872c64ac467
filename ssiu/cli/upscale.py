"""Upscales images: files, folders (with everything in them) and patterns.

ssiu upscale photo.jpg --output photo_x4.png
ssiu upscale holiday/ 'scans/**/*.tif' --output larger --scale 2 --format png
ssiu upscale photo.jpg --output larger --weights logs/mine/models/best.pt --self-ensemble
ssiu upscale photo.jpg --output larger --weights IMDN_x4.pth model=IMDN/architecture.py:IMDN
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

import cv2

from ssiu.cli.console import command_parser, without_model
from ssiu.config.load import load_config
from ssiu.device import PRECISIONS, describe, keep_freed_memory, select_device, set_arithmetic, warn_of_emulation
from ssiu.errors import BadInputError, ConfigError, OutputError, first_names
from ssiu.files import docs_page, nonempty_path
from ssiu.inference.batch import Report, upscale_files
from ssiu.inference.jobs import plan
from ssiu.inference.networks import load_network
from ssiu.inference.tiles import Tile
from ssiu.inference.upscaler import Upscaler
from ssiu.progress import log_to_console
from ssiu.weights.formats import read_weights
from ssiu.weights.load import load_configured

FORMATS = ("png", "jpg", "webp", "tif", "bmp")


def tile_side(text: str) -> Tile:
    """ "auto" or a number of LR pixels."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise ArgumentTypeError(f"expected auto or a whole number, 0 or more, got '{text}'")
    return int(text)


def main(argv: Sequence[str]) -> int:
    parser = command_parser("upscale", __doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="an image, a folder, or a quoted pattern")
    parser.add_argument(
        "--output", required=True, type=nonempty_path, metavar="OUT", help="a folder, or a file for one image"
    )
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="default: that of --config or --weights, or 4")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"ours (.safetensors, .pt, .onnx), hf:owner/name or another method's "
        f"({docs_page('external_networks.md')}); default: the shipped weights",
    )
    own = f"config of your own model ({docs_page('own_model.md')}), or model=FILE.py:Class scale=4 instead"
    parser.add_argument("--config", metavar="FILE", help=own)
    parser.add_argument(
        "--tile", type=tile_side, default="auto", metavar="auto|N|0", help="LR side of tiles; 0: no tiles"
    )
    parser.add_argument("--self-ensemble", action="store_true", help="a little better, eight times slower")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--format", choices=FORMATS, help="default: each image's own")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs (they are kept by default)")
    parser.add_argument("--no-metadata", action="store_true", help="do not copy EXIF, XMP, IPTC and the texts of PNG")
    argv, model_keys = without_model(argv)
    args = parser.parse_args(argv)
    log_to_console()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot decode has a line of its own
    jobs = plan(args.inputs, args.output, args.format and f".{args.format}")
    set_arithmetic(args.precision)
    device = select_device(args.device)
    warn_of_emulation(device, args.precision)
    keep_freed_memory()
    if args.config or model_keys:
        if args.scale and not args.config:
            model_keys = [f"scale={args.scale}", *model_keys]
        config = load_config(args.config, model_keys)
        if args.scale not in (None, config.scale):
            raise ConfigError(f"--scale {args.scale}: the config is of scale {config.scale}; leave --scale out")
        model = load_configured(config, args.weights and read_weights(args.weights), device)
    else:
        model = load_network(args.weights, args.scale, device)
    upscaler = Upscaler(model, tile=args.tile, self_ensemble=args.self_ensemble, precision=args.precision)
    report = Report()
    try:
        upscale_files(upscaler, jobs, args.output, args.overwrite, report, keep_metadata=not args.no_metadata)
    finally:  # also when a full disk or Ctrl-C ends it
        for line in report.failed:
            print(f"error: {line}", file=sys.stderr)
        for what, sources in report.left_out.items():
            print(f"left out: {what} ({first_names(map(str, sources), most=1)})")
        if report.done or report.kept or report.failed:
            written_to = jobs[0].target if len(jobs) == 1 else args.output
            print(f"{report.summary(written_to)}; x{upscaler.scale} on {describe(upscaler.device)}")
    return BadInputError.exit_code if report.failed else OutputError.exit_code if report.kept else 0

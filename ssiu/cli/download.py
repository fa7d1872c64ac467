"""Downloads test sets, training sets and the authors' weights, verifies them and puts them where they are read.

ssiu download benchmark                  Set5, Set14, B100, Urban100 into data/benchmark
ssiu download df2k --to /big/data        DIV2K and Flickr2K as the paper's 3,450 training images, LR images made here
ssiu download weights                    the authors' x2, x3, x4 into pretrain_model, where test and upscale find them

also: div2k, flickr2k, manga109 (which its owners give out themselves). Stopped or cut off, the same command goes on
where it was. What is there is never written to. It ends with what `ssiu check` says about the result.
"""

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # LR images are made in parallel, not the rows of one
from ssiu.cli.check import raise_listed, report_sets
from ssiu.cli.console import command_parser, log_to_console
from ssiu.data.pairs import prepare_command
from ssiu.download.sources import (
    ARCHIVES,
    MANIFEST,
    Manifest,
    obtain_df2k,
    obtain_sets,
    obtain_weights,
    read_manifest,
)
from ssiu.files import nonempty_path
from ssiu.weights.load import load_model, weights_folder


def download_weights(manifest: Manifest, folder: Path, scales: Sequence[int]) -> None:
    for scale, path in zip(scales, obtain_weights(manifest, folder, scales), strict=True):
        load_model(path, scale=scale, model="SSIU")
    print(f"licence of the weights: {manifest.weights.licence}")


def download_sets(manifest: Manifest, what: str, data_path: Path, scales: Sequence[int]) -> None:
    if what == "df2k":
        names = obtain_df2k(manifest, data_path, scales)
    else:
        names = [name for archive in ARCHIVES[what] for name in obtain_sets(manifest, archive, data_path, scales)]
    problems = report_sets(data_path, names)
    print_licences(manifest, ["DIV2K", "Flickr2K"] if what == "df2k" else names)
    if what == "benchmark":
        print_applications(manifest, data_path, scales)
    raise_listed(problems)


def print_licences(manifest: Manifest, names: Sequence[str]) -> None:
    for archive in manifest.archives.values():
        for name in archive.sets.keys() & names:
            print(f"licence of {name}: {archive.sets[name].licence}")


def print_applications(manifest: Manifest, data_path: Path, scales: Sequence[int]) -> None:
    """Of the sets that cannot be downloaded: where to ask, and what to do then."""
    for name, files in manifest.by_application.items():
        hr = data_path / files.hr
        print(
            f"{name} is given out by its owners: apply at {files.page}, put the {files.images} images into {hr}, then\n"
            f"  {prepare_command(hr, scales)}\n"
            f"licence of {name}: {files.licence}"
        )


def main(argv: Sequence[str]) -> None:
    parser = command_parser("download", __doc__)
    parser.add_argument("what", choices=[*ARCHIVES, "df2k", "weights", "manga109"], metavar="WHAT", help="see above")
    parser.add_argument(
        "--to", type=nonempty_path, metavar="DIR", help="default: data; for weights: where they are looked for"
    )
    parser.add_argument("--scales", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3, 4], metavar="S")
    parser.add_argument("--sources", type=Path, default=MANIFEST, metavar="FILE", help="instead of the package's list")
    args = parser.parse_args(argv)
    log_to_console()
    manifest = read_manifest(args.sources)
    if args.what == "weights":
        download_weights(manifest, args.to or weights_folder(), args.scales)
    elif args.what == "manga109":
        print_applications(manifest, args.to or Path("data"), args.scales)
    else:
        download_sets(manifest, args.what, args.to or Path("data"), args.scales)

"""Downloads test sets, training sets and the authors' weights, verifies them and puts them where they are read.

ssiu download benchmark                  Set5, Set14, B100, Urban100 into data/benchmark
ssiu download df2k --to /big/data        DIV2K and Flickr2K as the paper's 3,450 training images, LR images made here
ssiu download weights                    the authors' x2, x3, x4 into pretrain_model, where test and upscale find them

Also: div2k, flickr2k, manga109 (prints where to apply for it). After an interruption the same command continues.
Existing files are never changed. At the end the result is checked as by `ssiu check`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # LR images are made in parallel, not the rows of one
from ssiu.cli.check import raise_listed, report_sets
from ssiu.cli.console import command_parser
from ssiu.data.catalog import CATALOG_FILE, SETS, Catalog, read_catalog
from ssiu.download.sources import by_hand, obtain, obtain_weights
from ssiu.files import nonempty_path
from ssiu.progress import log_to_console
from ssiu.weights.load import load_model
from ssiu.weights.shipped import weights_folder

BY_APPLICATION = [name for name, known in SETS.items() if known.page]


def download_weights(catalog: Catalog, folder: Path, scales: Sequence[int]) -> None:
    for scale in scales:
        load_model(obtain_weights(catalog, folder, scale), scale=scale, model="SSIU")
    print(f"licence of the weights: {catalog.weights.licence}")


def download_sets(catalog: Catalog, word: str, data_path: Path, scales: Sequence[int]) -> None:
    names = obtain(catalog, word, data_path, scales)
    problems = report_sets(data_path, names)
    for name in names:
        for part in catalog.sets[name].parts or [name]:
            print(f"licence of {part}: {catalog.sets[part].licence}")
    if word == "benchmark":
        print_applications(data_path, scales)
    raise_listed(problems)


def print_applications(data_path: Path, scales: Sequence[int]) -> None:
    """Of the sets that cannot be downloaded: where to ask, and what to do then."""
    for name in BY_APPLICATION:
        print(f"{name} is given out by its owners: {by_hand(name, data_path, scales)}")
        print(f"licence of {name}: {SETS[name].licence}")


def main(argv: Sequence[str]) -> None:
    parser = command_parser("download", __doc__)
    words = [*dict.fromkeys(known.get for known in SETS.values()), "weights"]
    parser.add_argument("what", choices=words, metavar="WHAT", help="see above")
    parser.add_argument(
        "--to", type=nonempty_path, metavar="DIR", help="default: data; for weights: where other commands find them"
    )
    parser.add_argument("--scales", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3, 4], metavar="S")
    parser.add_argument("--sources", type=Path, default=CATALOG_FILE, metavar="FILE", help="your own catalog.yaml")
    args = parser.parse_args(argv)
    log_to_console()
    catalog = read_catalog(args.sources)
    if args.what == "weights":
        download_weights(catalog, args.to or weights_folder(), args.scales)
    elif args.what in {SETS[name].get for name in BY_APPLICATION}:
        print_applications(args.to or Path("data"), args.scales)
    else:
        download_sets(catalog, args.what, args.to or Path("data"), args.scales)

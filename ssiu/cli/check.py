"""Checks data sets, image by image.

ssiu check data
ssiu check data/benchmark --leaks data/MySet/HR
ssiu check data/MySet --stats --figure MySet.png        (describes the images instead of checking them)
ssiu check data/MySet --keep-hardest 0.5 hard.txt       (then train with image_list=hard.txt)

Checks of every set the number of images, the pairs and their sizes, every image with its checksums, the digest of the
usual test sets, and how many values of the LR images differ from MATLAB's imresize of the HR images (published numbers
need 0). The exit code is 0 if all is well.
"""

import math
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # images are checked in parallel, not the rows of one
import numpy as np

from ssiu.cli.console import command_parser
from ssiu.data.cache import ImageCache, default_cache_folder
from ssiu.data.catalog import SETS, known_name, usual_name
from ssiu.data.check import FolderReport, check_cache, check_set, find_sets
from ssiu.data.layouts import image_files, list_images
from ssiu.data.leaks import find_leaks
from ssiu.data.pairs import CARD, require_set
from ssiu.data.set_statistics import BLOCKY, ImageFacts, duplicates, hardest, set_facts
from ssiu.errors import BadInputError, ConfigError, MissingInputError, SSIUError, counted, first_names, one_line
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.tables import Cell, Number, Table


def row(report: FolderReport) -> list[str]:
    expected = f" of {report.expected}" if report.expected else ""
    differing = f"{report.differing:,} of {report.values:,}" if report.part != "HR" and report.values else "-"
    verdict = "ok" if not report.problems else counted(len(report.problems), "problem")
    return [report.set_name, report.part, f"{report.images}{expected}", report.digest, differing, verdict]


def report_sets(data_path: Path, names: Sequence[str]) -> list[SSIUError]:
    """Checks the sets and prints what was found; returns the problems."""
    reports = [report for name in names for report in check_set(data_path, name)]
    header = ["set", "part", "images", "usual copy", "LR values that differ", "verdict"]
    print(Table(f"Data sets in {data_path}", header, [row(report) for report in reports]).text())
    return [problem for report in reports for problem in report.problems]


def raise_listed(problems: Sequence[SSIUError]) -> None:
    """Prints the problems and raises the first; nothing without problems."""
    if problems:
        print()
        for problem in problems:
            print(f"- {one_line(problem)}")
        raise type(problems[0])(f"{counted(len(problems), 'problem')}, listed above; the first: {problems[0]}")


def images_beside(data_path: Path, names: Sequence[str], train: Path) -> list[Path]:
    """The HR images of the sets but the one with ``train`` as HR folder, the known training sets, and taught ones.

    Raises MissingInputError (66) when none is left.
    """
    training = {name for name, known in SETS.items() if known.use == "training"}
    sets = [require_set(data_path, name) for name in names if usual_name(known_name(name)) not in training]
    folders = [each.hr for each in sets if not each.hr.samefile(train) and not (each.hr.parent / CARD).exists()]
    images = [Path(file) for folder in folders for _, file in image_files(folder)]
    if not images:
        raise MissingInputError(f"{data_path}: no set that {train} could be compared with; name a folder of test sets")
    return images


def report_leaks(train: Sequence[Path], tests: Sequence[Path]) -> list[SSIUError]:
    """Prints which of ``train``, the images of one folder, show one of ``tests``."""
    leaks, problems = find_leaks(train, tests)
    if not leaks:
        print(f"\nNo training image shows any of {counted(len(tests), 'test image')}.")
        return problems
    header = ["training image", "shows test image", "correlation", "of its area", "size"]
    rows = [
        [str(leak.train), str(leak.test), f"{leak.correlation:.3f}", f"{leak.covered:.0%}", f"{leak.scale:.2f}"]
        for leak in leaks
    ]
    print("\n" + Table(f"Training images that show one of {len(tests)} test images", header, rows).text())
    images = sorted({leak.train.name for leak in leaks})
    folder = train[0].parent
    return [*problems, BadInputError(f"{folder}: {len(images)} images show test images: {first_names(images)}")]


def number(text: str) -> float:
    """A number of the command line; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def report_facts(data_path: Path, names: Sequence[str], arguments: Namespace) -> list[SSIUError]:
    """Prints what the images of the sets are like, draws it, writes a list of the hardest; returns the problems."""
    if arguments.keep_hardest and len(names) > 1:
        raise ConfigError(f"--keep-hardest: {data_path} holds {first_names(names)}; name one of them")
    if arguments.figure:
        from ssiu.report.figures import check_target, save_figure
        from ssiu.report.set_figure import set_figure

        check_target(arguments.figure)
    found, rows, problems = {}, [], []
    for name in names:
        images = list_images(require_set(data_path, name).hr)
        facts, bad = set_facts(images)
        problems += bad
        if facts:
            found[name] = facts
            rows.append(facts_row(name, facts))
        if arguments.keep_hardest and facts:
            share, path = arguments.keep_hardest
            kept = hardest(facts, share)
            lines = "".join(f"{each}{images[each].suffix}\n" for each in kept)  # so that no name ends in another suffix
            write_atomically(make_folder(path.parent) / path.name, lines.encode())
            print(f"{path}: {counted(len(kept), 'image')} of {len(facts)}; train on them with image_list={path}\n")
    header = ["set", "images", "megapixels", "smallest", "largest", "gray", "duplicates", "JPEG blocks", "flat patches"]
    print(Table(f"Images in {data_path}", [*header, "gradient energy"], rows).text())
    if arguments.figure and found:
        save_figure(arguments.figure, set_figure(found))
    return problems


def facts_row(name: str, facts: Sequence[ImageFacts]) -> list[Cell]:
    sizes = sorted((each.size for each in facts), key=math.prod)
    counts = sum(each.gray for each in facts), duplicates(facts), sum(each.blockiness > BLOCKY for each in facts)
    flat, energy = np.mean([each.flat for each in facts]), np.median([each.energy for each in facts])
    extremes = [f"{width}x{height}" for height, width in (sizes[0], sizes[-1])]
    numbers = Number(len(facts), ",d"), Number(sum(map(math.prod, sizes)) / 1e6, ",.1f")
    return [
        name,
        *numbers,
        *extremes,
        *(Number(count, ",d") for count in counts),
        f"{flat:.1%}",
        Number(energy, ",.0f"),
    ]


def main(argv: Sequence[str]) -> None:
    parser = command_parser("check", __doc__)
    parser.add_argument("root", type=Path, help="your data_path, its benchmark folder, or one set")
    parser.add_argument("--deep", action="store_true", help="also compare the image cache with the images")
    parser.add_argument("--cache-dir", type=Path, help="the cache that --deep compares; default: that of training")
    parser.add_argument("--leaks", type=Path, metavar="HR_DIR", help="search these training images for test images")
    parser.add_argument("--stats", action="store_true", help="describe the images instead of checking them")
    parser.add_argument("--figure", type=nonempty_path, metavar="FILE", help="also draw what --stats prints")
    parser.add_argument(
        "--keep-hardest",
        nargs=2,
        metavar=("SHARE", "LIST"),
        help="write the names of that share of the images, those with the most detail, for the key image_list",
    )
    arguments = parser.parse_args(argv)
    if arguments.keep_hardest:
        share, path = arguments.keep_hardest
        if not 0 < number(share) <= 1 or not path:
            parser.error(f"--keep-hardest: expected a share above 0 and up to 1, and a file, got {share} '{path}'")
        arguments.keep_hardest = number(share), Path(path)

    data_path, names = find_sets(arguments.root)
    if arguments.stats or arguments.figure or arguments.keep_hardest:
        raise_listed(report_facts(data_path, names, arguments))
        return
    if arguments.leaks:
        train = list(list_images(arguments.leaks).values())  # refused before everything is decoded
        tests = images_beside(data_path, names, arguments.leaks)
    problems = report_sets(data_path, names)
    if arguments.deep:
        cache = ImageCache(arguments.cache_dir or default_cache_folder(data_path))
        compared, cache_problems = check_cache(arguments.root, cache)
        found = f"{counted(compared, 'image')} compared, {counted(len(cache_problems), 'problem')}"
        print(f"\ncache {cache.folder}: {found}")
        problems += cache_problems
    if arguments.leaks:
        problems += report_leaks(train, tests)
    raise_listed(problems)

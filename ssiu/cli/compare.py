"""Shows what one method gains over another, image by image, and whether the test set is large enough to tell.

ssiu compare results/IMDN_x4 results/SSIU_x4                     all are compared with the first
ssiu compare IMDN=results/IMDN_x4 SSIU=results/seed0 SSIU=results/seed1 --output results/compared
ssiu compare --hr data/benchmark/Set14/HR --scale 4 IMDN_IMAGES SSIU_IMAGES

Prints for each test set both means, the mean difference with its 95% interval over images, p, the smallest difference
that the set can show, and the images that decide. A name that is given several times is one method with several seeds.
docs/compare.md explains the numbers. ssiu figures compare draws crops of one image side by side.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, named_path, terminal_width
from ssiu.errors import BadInputError, ConfigError, MissingInputError, one_line
from ssiu.evaluation.metrics import KNOWN
from ssiu.evaluation.score_folders import score_folders
from ssiu.evaluation.scores import NO_SUMMARY, PER_IMAGE, SUMMARY, Evaluation, read_per_image
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.comparison import FORMS, Method, compare, comparisons_csv, gains_csv
from ssiu.report.figures import save_figure
from ssiu.report.gains_figure import gains_figure
from ssiu.report.pages import encoded


def read_methods(arguments: Sequence[str], hr: Path | None, scale: int | None, protocol: str) -> list[Method]:
    """A method for each name, in the order in which they were given."""
    runs: dict[str, list[Evaluation]] = {}
    scales: dict[int, Path] = {}
    for given, path in map(named_path, arguments):
        if hr and scale:
            name, found, its_scale = path.absolute().name, score_folders(path, hr, scale, (protocol,)), None
        else:
            name, found, its_scale = _read(path)
        runs.setdefault(one_line(given or name), []).append(found)
        if its_scale:
            scales.setdefault(its_scale, path)
    if len(scales) > 1:
        (one, a), (other, b), *_ = scales.items()
        raise ConfigError(f"{a} is of x{one} and {b} of x{other}; compare runs of one scale")
    if len(runs) < 2:
        raise ConfigError(f"'{next(iter(runs))}' is the only method; give another, or names as in A=DIR B=DIR")
    return [Method(name, found) for name, found in runs.items()]


def _read(path: Path) -> tuple[str, Evaluation, int | None]:
    """The name of the results, their scores, and their scale where it is known."""
    if path.suffix == ".csv" and path.name != PER_IMAGE:
        return path.stem, read_per_image(path), None
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (path / PER_IMAGE).exists():
        raise MissingInputError(
            f"{path}: no results of test.py ({PER_IMAGE}); to score a folder of SR images add --hr HR_DIR --scale S"
        )
    summary = folder / SUMMARY
    try:
        scale = int(json.loads(summary.read_text(encoding="utf-8"))["scale"])
    except OSError as error:
        raise MissingInputError(f"{summary}: {error.strerror}; expected that of test.py") from None
    except NO_SUMMARY:
        raise BadInputError(f"{summary} is not a summary.json of test.py; name another folder") from None
    return folder.absolute().name, read_per_image(folder / PER_IMAGE), scale


def main(argv: Sequence[str]) -> None:
    parser = command_parser("compare", __doc__)
    parser.add_argument(
        "methods", nargs="+", metavar="[NAME=]RESULTS", help="a folder of test.py, its summary.json, or a per-image CSV"
    )
    parser.add_argument("--hr", type=Path, metavar="DIR", help="the originals, if RESULTS are folders of SR images")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), help="with --hr: the upscaling factor")
    parser.add_argument("--number", choices=tuple(FORMS), default="psnr", help="the number to compare; default: psnr")
    parser.add_argument("--protocol", choices=KNOWN, default="standard", help="default: standard")
    parser.add_argument(
        "--output", type=nonempty_path, metavar="DIR",
        help="also write compare.csv, .md and .tex, gains.csv (a line per image), gains.png and gains.pdf",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if (args.hr is None) != (args.scale is None):
        raise ConfigError("--hr and --scale belong together: the originals of folders of SR images, and their scale")
    if args.output:
        make_folder(args.output)
    first, *others = read_methods(args.methods, args.hr, args.scale, args.protocol)
    comparisons = [compare(first, other, args.protocol, args.number) for other in others]
    tables = [each.table() for each in comparisons]
    for table in tables:
        print(table.text(terminal_width()), end="\n\n")
    if args.output:
        texts = {
            "compare.csv": comparisons_csv(comparisons),
            "compare.md": "\n".join(table.markdown() for table in tables),
            "compare.tex": "\n".join(table.latex() for table in tables),
            "gains.csv": gains_csv(comparisons),
        }
        for name, text in texts.items():
            write_atomically(args.output / name, encoded(text))
        figure = gains_figure(comparisons)
        for name in ("gains.png", "gains.pdf"):
            save_figure(args.output / name, figure)

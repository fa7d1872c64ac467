"""Makes LR images exactly as MATLAB's imresize does, in the folder layout that training and testing read.

ssiu prepare photos/ --output data/MySet --scales 2 3 4
ssiu prepare photos/ --output data/mine --scales 2 --holdout 20       (makes data/mine and data/mine_val)
ssiu prepare tiles/ --output data/mine --holdout 20 --group 'clic25_[0-9]+'   (tiles of one photograph stay together)
ssiu prepare photos/ --output data/mine --scales 2 --teacher OTHER_x2.pth   (also makes data/mine_OTHER_x2)
ssiu prepare df2k --div2k downloads/DIV2K --flickr2k downloads/Flickr2K --output data

After an interruption the same command continues.
"""

import os
import re
import shlex
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # images are made in parallel, not the rows of one
from ssiu.cli.console import command_parser, without_model
from ssiu.data.layouts import copies
from ssiu.data.pairs import CARD, VALIDATION
from ssiu.data.prepare import make_df2k, make_pairs, make_split
from ssiu.errors import ConfigError, counted, first_names
from ssiu.files import nonempty_path
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.images.io import unread
from ssiu.progress import log_to_console

if TYPE_CHECKING:
    from ssiu.inference.teach import Teacher


def passed_over(folder: Path) -> str:
    """What in a folder of photographs is not read, such as ``2 .heic, 1 folder``; empty where all is."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    found = [unread(path for path in paths if not path.is_dir())]
    if folders := sum(path.is_dir() for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES):
        found.append(f"{folders} folder{'s' * (folders > 1)}")
    return ", ".join(filter(None, found))


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression of the command line."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"not a regular expression: {error}") from None


def load_teacher(arguments: Namespace, set_name: str) -> "Teacher | None":
    """What --teacher names, before any work; torch is imported for it alone."""
    if arguments.teacher is None:
        for option in ("config", "self_ensemble", "licence", "origin", "model_keys"):
            if getattr(arguments, option):
                said = "model=..." if option == "model_keys" else f"--{option.replace('_', '-')}"
                raise ConfigError(f"{said} is for --teacher")
        return None
    from ssiu.config.load import load_config
    from ssiu.device import keep_freed_memory, select_device, set_arithmetic, warn_of_emulation
    from ssiu.inference.networks import load_network
    from ssiu.inference.teach import Teacher, refuse_evaluation_set
    from ssiu.inference.upscaler import Upscaler
    from ssiu.weights.formats import read_weights
    from ssiu.weights.hub import with_commit
    from ssiu.weights.load import load_configured

    refuse_evaluation_set(set_name)
    log_to_console()
    set_arithmetic(arguments.precision)
    device = select_device(arguments.device)
    warn_of_emulation(device, arguments.precision)
    keep_freed_memory()
    teacher = with_commit(arguments.teacher)
    if arguments.config or arguments.model_keys:
        config = load_config(arguments.config, arguments.model_keys)
        model = load_configured(config, read_weights(teacher), device)
    else:
        model = load_network(teacher, None, device)
    upscaler = Upscaler(model, self_ensemble=arguments.self_ensemble, precision=arguments.precision)
    if upscaler.scale not in arguments.scales:
        raise ConfigError(f"--scales: {arguments.teacher} upscales by {upscaler.scale}; add {upscaler.scale}")
    return Teacher(teacher, model, upscaler, arguments.licence, arguments.origin)


def print_taught(root: Path, teacher: "Teacher", copy: bool) -> None:
    from ssiu.inference.teach import teach

    student = next(copies(root))
    folder, report = teach(student, teacher, copy)
    print(f"{report.summary(folder)}; {folder / CARD} describes the set")
    if not teacher.licence:
        print(f"the card does not say under which licence {teacher.file.name} is: --licence TEXT adds it")
    mixed = f"'training_dataset=[{student.name},{folder.name}]'"
    print(f"train on it with 'training_dataset={folder.name}', or on both with {mixed}")


def main(argv: Sequence[str]) -> None:
    parser = command_parser("prepare", __doc__)
    parser.add_argument("source", help="folder of HR images, or the word df2k")
    parser.add_argument("--output", type=nonempty_path, required=True, help="the new set; for df2k: your data_path")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4], choices=range(2, 9), metavar="S")
    parser.add_argument("--copy", action="store_true", help="copy the HR images instead of linking to them")
    parser.add_argument("--holdout", type=int, metavar="N", help="keep N images for validation, in OUTPUT_val")
    parser.add_argument(
        "--group", type=pattern, metavar="REGEX", help="names that begin with the same match stay together"
    )
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="also make a set with HR images by this network")
    parser.add_argument(
        "--config", metavar="FILE", help="config of a teacher that is a custom model (docs/own_model.md), or model=..."
    )
    parser.add_argument(
        "--self-ensemble", action="store_true", help="of the teacher: better images, eight times slower"
    )
    parser.add_argument("--licence", metavar="TEXT", help="licence of the teacher, for the card of the set")
    parser.add_argument("--origin", metavar="URL", help="source of the teacher, for the card of the set")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"), help="for the teacher")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16", "fp16"), help="for the teacher")
    parser.add_argument("--div2k", type=Path, help="df2k: folder of the unpacked DIV2K download")
    parser.add_argument("--flickr2k", type=Path, help="df2k: folder of the unpacked Flickr2K download")
    argv, model_keys = without_model(argv)
    arguments = parser.parse_args(argv)
    arguments.model_keys = model_keys
    if not arguments.source:
        parser.error("the source is empty; name a folder")
    source = Path(arguments.source)
    output = Path(os.path.normpath(arguments.output.absolute()))  # "." has no name to add _val to
    root = output / "DF2K" if arguments.source == "df2k" else output
    teacher = load_teacher(arguments, root.name)
    if arguments.source == "df2k":
        if arguments.holdout is not None:
            raise ConfigError("--holdout is for your own images; DIV2K has validation images, 0801-0900")
        if not (arguments.div2k and arguments.flickr2k):
            raise ConfigError("df2k needs --div2k and --flickr2k: the folders of the two unpacked downloads")
        made = make_df2k(arguments.div2k, arguments.flickr2k, output, arguments.scales, arguments.copy)
    else:
        if others := passed_over(source):
            print(f"{source}: skipped {others} (not read)")
        if arguments.group and arguments.holdout is None:
            raise ConfigError("--group is for --holdout: it says which images are held out together")
        if arguments.holdout is None:
            made = make_pairs(source, output, arguments.scales, arguments.copy)
        else:
            options = arguments.holdout, arguments.copy, arguments.group
            training, held, made = make_split(source, output, arguments.scales, *options)
            total = len(training) + len(held)
            print(f"{len(held)} of {total} images are held out in {output}{VALIDATION}: {first_names(held)}")
    also = f" and {output}{VALIDATION}" if arguments.holdout else ""
    check = f"check them: python -m ssiu check {shlex.quote(str(output))}"
    print(f"{counted(made, 'LR image')} made in {output}{also}; {check}")
    if teacher:
        print_taught(root, teacher, arguments.copy)

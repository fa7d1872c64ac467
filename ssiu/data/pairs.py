"""Finds the (LR, HR) pairs of a set and checks them by their headers, before any work starts."""

import logging
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssiu.data.catalog import SETS, known_name, usual_name
from ssiu.data.headers import Header, image_headers
from ssiu.data.layouts import SetFolders, available_sets, list_files, set_folders
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.images.bicubic import make_lr
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.images.io import read_rgb

CARD = "card.json"  # of a set that `ssiu prepare --teacher` made, in its folder
VALIDATION = "_val"  # ends the name of the set that `ssiu prepare --holdout` keeps for validation
logger = logging.getLogger("ssiu")


class Pair(NamedTuple):
    """An LR image and its HR image; sizes are (height, width) from the headers, ``bytes`` those of both files.

    ``0 <= hr_size - scale * lr_size < scale`` for both sides: HR is cropped right and bottom where it is used. Without
    an ``lr_file`` LR is made of HR.
    """

    name: str
    lr_file: str | None
    hr_file: str
    lr_size: tuple[int, int]
    hr_size: tuple[int, int]
    bytes: tuple[int, int]

    @property
    def lr(self) -> Path | None:
        """The LR file as a path."""
        return None if self.lr_file is None else Path(self.lr_file)

    @property
    def hr(self) -> Path:
        """The HR file as a path."""
        return Path(self.hr_file)

    def read(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """LR and HR, uint8 (h, w, 3) and (scale h, scale w, 3). Raises BadInputError (65) for a damaged image."""
        hr = read_rgb(self.hr)
        lr = make_lr(hr, scale) if self.lr is None else read_rgb(self.lr)
        return lr, hr[: lr.shape[0] * scale, : lr.shape[1] * scale]


def find_pairs(data_path: str | Path, set_name: str, scale: int, only: Collection[str] | None = None) -> list[Pair]:
    """All pairs of a set, or those with a name in ``only``, sorted by name.

    Raises:
        MissingInputError (66): the set or single images are not there.
        BadInputError (65): a size that cannot be HR / scale, or a header that cannot be read; the file is named.
    """
    folders = require_set(Path(data_path), set_name)
    lr = folders.lr_to_read(scale)
    if lr is None and (folders.root / CARD).exists():
        raise MissingInputError(
            f"data set '{folders.name}' has no x{scale} LR images, and its HR images are a teacher's, so no LR is made "
            "of them: python -m ssiu prepare --teacher makes such a set of another scale"
        )
    if lr is None:
        logger.info("%s: no %s, so x%d LR is made of HR", folders.name, folders.lr(scale), scale)
    return pairs_of_folders(folders.hr, lr, scale, only)


def require_set(data_path: Path, set_name: str) -> SetFolders:
    """`set_folders`, but MissingInputError (66) with the next step when no layout fits."""
    data_path = data_path.absolute()
    if not data_path.is_dir():
        hint = download_hint([set_name], data_path)
        raise MissingInputError(
            f"data_path {data_path}: no such folder; set data_path to the folder of your data{hint}"
        )
    folders = set_folders(data_path, set_name)
    if folders is None:
        there = first_names(available_sets(data_path), 20) or "none"
        raise MissingInputError(
            f"data set '{set_name}' is not in {data_path}: expected {set_name}/HR or benchmark/{set_name}/HR there; "
            f"sets found: {there}{download_hint([set_name], data_path)}"
        )
    return folders


def pairs_of_folders(hr: Path, lr: Path | None, scale: int, only: Collection[str] | None = None) -> list[Pair]:
    """The pairs of a folder of HR images and one of LR images, which are made of HR without one; as `find_pairs`."""
    return match_pairs(list_files(hr), list_files(lr) if lr else None, scale, only)


def read_names(path: Path) -> set[str]:
    """The names of images in a text file, one a line, with or without the suffix.

    Raises MissingInputError (66) where there is no such file, or it names nothing, BadInputError (65) for another file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise MissingInputError(f"cannot read {path}: {error.strerror}; expected names of images, one a line") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: not a text file in UTF-8; expected names of images, one a line") from None
    names = {line.strip() for line in lines} - {""}
    if not names:
        raise MissingInputError(f"{path}: names no image; expected one a line")
    return {
        name.removesuffix(suffix) if (suffix := Path(name).suffix).lower() in IMAGE_SUFFIXES else name for name in names
    }


def prepare_command(hr: Path, scales: Iterable[int]) -> str:
    """The command that makes the LR images of the set with this HR folder, where its layout has them."""
    places = f"{shlex.quote(str(hr))} --output {shlex.quote(str(hr.parent))}"
    return f"python -m ssiu prepare {places} --scales {' '.join(map(str, scales))}"


def download_hint(set_names: Iterable[str], data_path: Path) -> str:
    """The commands that download those of the sets which are known, and make the others, to end a message with."""
    wanted = {known_name(usual_name(name)) for name in set_names}
    words = dict.fromkeys(known.get for name, known in SETS.items() if name in wanted)
    commands = [f"python -m ssiu download {word} --to {shlex.quote(str(data_path))}" for word in words]
    for name in dict.fromkeys(name.removesuffix(VALIDATION) for name in sorted(wanted - SETS.keys())):
        holdout = " --holdout 20" if f"{name}{VALIDATION}" in wanted else ""
        commands.append(f"python -m ssiu prepare PHOTOS --output {shlex.quote(str(data_path / name))}{holdout}")
    return f"; get {'it' if len(commands) == 1 else 'them'}: {' and '.join(commands)}" if commands else ""


def lr_names(hr: Iterable[str], lr: Iterable[str], scale: int) -> dict[str, str]:
    """The LR name of each HR name that has one: ``NAMEx{scale}``, ``NAME_x{scale}`` or ``NAME``.

    No LR image belongs to two.
    """
    hr, free = list(hr), set(lr)
    names: dict[str, str] = {}
    for suffix in (f"x{scale}", f"_x{scale}", ""):
        for name in hr:
            if name not in names and name + suffix in free:
                names[name] = name + suffix
                free.remove(name + suffix)
    return names


def match_pairs(
    hr: Mapping[str, str | Path], lr: Mapping[str, str | Path] | None, scale: int, only: Collection[str] | None = None
) -> list[Pair]:
    """Pairs up images by name (see `lr_names`) and checks every size; arguments and errors as `pairs_of_folders`."""
    names = sorted(hr if only is None else hr.keys() & only)
    lr_files: list[str | None] = [None] * len(names)
    if lr is not None:
        of_hr = lr_names(hr, lr, scale)
        missing = [name for name in names if name not in of_hr]
        extra = sorted(set(lr) - set(of_hr.values()))
        if missing or extra:
            hr_folder, lr_folder = (Path(next(iter(files.values()))).parent for files in (hr, lr))
            problems = []
            if missing:
                problems.append(f"{len(missing)} HR images have no LR image in {lr_folder}: {first_names(missing)}")
            if extra:
                problems.append(f"{len(extra)} LR images have no HR image in {hr_folder}: {first_names(extra)}")
            raise MissingInputError(f"{'; '.join(problems)} (expected NAMEx{scale} for every NAME)")
        lr_files = [str(lr[of_hr[name]]) for name in names]
    hr_files = [str(hr[name]) for name in names]
    headers = image_headers([file for pair in zip(lr_files, hr_files, strict=True) for file in pair if file])
    if lr is None:  # made of HR, which is cropped for that
        headers = [each for h in headers for each in (Header(0, h.height // scale, h.width // scale), h)]
    found = [
        Pair(name, lr_file, hr_file, lr_header[1:], hr_header[1:], (lr_header.bytes, hr_header.bytes))
        for name, lr_file, hr_file, lr_header, hr_header in zip(
            names, lr_files, hr_files, headers[0::2], headers[1::2], strict=True
        )
    ]
    wrong = [pair for pair in found if not (min(pair.lr_size) and sizes_fit(pair.lr_size, pair.hr_size, scale))]
    if wrong:
        pair = wrong[0]
        others = f"; {len(wrong)} such pairs: {first_names(pair.name for pair in wrong)}" if len(wrong) > 1 else ""
        if lr is None:
            raise BadInputError(f"{pair.hr_file}: {_text(pair.hr_size)} is too small for x{scale}{others}")
        raise BadInputError(
            f"{pair.lr_file} is {_text(pair.lr_size)} but {pair.hr_file} is {_text(pair.hr_size)}: expected "
            f"{_text((pair.hr_size[0] // scale, pair.hr_size[1] // scale))} at x{scale}{_guess(pair, scale)}{others}"
        )
    return found


def sizes_fit(lr_size: tuple[int, int], hr_size: tuple[int, int], scale: int) -> bool:
    """Whether HR is LR * scale, or has fewer than ``scale`` surplus rows and columns."""
    return all(0 <= hr - scale * lr < scale for lr, hr in zip(lr_size, hr_size, strict=True))


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _guess(pair: Pair, scale: int) -> str:
    """The usual reason for such sizes, or nothing."""
    if sizes_fit(pair.hr_size, pair.lr_size, scale):
        return "; the HR and LR folders look swapped"
    if sizes_fit(pair.lr_size[::-1], pair.hr_size, scale):
        return "; height and width look swapped"
    if pair.lr_size == pair.hr_size:
        return "; the LR folder seems to hold HR images"
    for other in (2, 3, 4, 8):
        if sizes_fit(pair.lr_size, pair.hr_size, other):
            return f"; this looks like an x{other} pair"
    return ""

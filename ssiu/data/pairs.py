"""Finds the (LR, HR) pairs of a set and checks them by their headers, before any work starts."""

import hashlib
import logging
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from ssiu.data.catalog import SETS, known_name, usual_name
from ssiu.data.headers import image_headers
from ssiu.data.layouts import SetFolders, available_sets, list_files, set_folders
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.images.bicubic import make_lr
from ssiu.images.io import read_rgb

LARGE_SET = 5000  # pairs, and DF2K has 3,450: training on a set of more starts at once
CARD = "card.json"  # of a set that `ssiu prepare --teacher` made, in its folder
VALIDATION = "_val"  # ends the name of the set that `ssiu prepare --holdout` keeps for validation
logger = logging.getLogger("ssiu")


class Pair(NamedTuple):
    """An LR image and its HR image; sizes are (height, width) from the headers, ``bytes`` those of both files.

    ``0 <= hr_size - scale * lr_size < scale`` for both sides: HR is cropped right and bottom where it is used. Without
    an LR file LR is made of HR.
    """

    name: str
    lr: Path | None
    hr: Path
    lr_size: tuple[int, int]
    hr_size: tuple[int, int]
    bytes: tuple[int, int]

    def read(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """LR and HR, uint8 (h, w, 3) and (scale h, scale w, 3). Raises BadInputError (65) for a damaged image."""
        hr = read_rgb(self.hr)
        lr = make_lr(hr, scale) if self.lr is None else read_rgb(self.lr)
        return lr, hr[: lr.shape[0] * scale, : lr.shape[1] * scale]


@dataclass(frozen=True, eq=False)
class Pairs(Sequence[Pair]):
    """The pairs of a set, sorted by name. There may be 100,000, so each is made when it is asked for.

    ``sizes`` are (n, 2, 2): of LR and HR, height and width; ``bytes`` (n, 2), 0 for LR without a file.
    """

    names: Sequence[str]
    lr_files: Sequence[str] | None
    hr_files: Sequence[str]
    sizes: np.ndarray
    bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def large(self) -> bool:
        """Whether images are only decoded when they are visited, and a digest is one of headers."""
        return len(self) > LARGE_SET

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        (lr_height, lr_width), (hr_height, hr_width) = self.sizes[index].tolist()
        lr_bytes, hr_bytes = self.bytes[index].tolist()
        lr = Path(self.lr_files[index]) if self.lr_files else None
        sizes = (lr_height, lr_width), (hr_height, hr_width)
        return Pair(self.names[index], lr, Path(self.hr_files[index]), *sizes, (lr_bytes, hr_bytes))


def find_pairs(
    data_path: str | Path,
    set_name: str,
    scale: int,
    only: Collection[str] | None = None,
    memory: Path | None = None,
) -> Pairs:
    """All pairs of a set, or those with a name in ``only``, sorted by name.

    The headers of a large set are remembered in the folder ``memory``, if there is one.

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
    return pairs_of_folders(folders.hr, lr, scale, only, memory)


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


def pairs_of_folders(
    hr: Path, lr: Path | None, scale: int, only: Collection[str] | None = None, memory: Path | None = None
) -> Pairs:
    """The pairs of a folder of HR images and one of LR images, which are made of HR without one; as `find_pairs`."""
    hr_files, lr_files = list_files(hr), list_files(lr) if lr else None
    index = None
    if memory and len(hr_files if only is None else only) > LARGE_SET:
        key = hashlib.sha256(f"{hr} {lr} {sorted(only or ())}".encode("utf-8", "surrogateescape")).hexdigest()
        index = memory / f"index_{key[:20]}.npz"
    return match_pairs(hr_files, lr_files, scale, only, index)


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
    hr: Mapping[str, str | Path],
    lr: Mapping[str, str | Path] | None,
    scale: int,
    only: Collection[str] | None = None,
    index: Path | None = None,
) -> Pairs:
    """Pairs up images by name (see `lr_names`) and checks every size; ``index`` as in `image_headers`.

    Other arguments and errors as `pairs_of_folders`.
    """
    names = sorted(hr if only is None else hr.keys() & only)
    hr_files = [str(hr[name]) for name in names]
    lr_files = None if lr is None else _lr_files(names, hr, lr, scale)
    headers = image_headers([*(lr_files or ()), *hr_files], index)
    of_lr, of_hr = headers[: len(names)], headers[len(headers) - len(names) :]
    if lr is None:  # it is made of HR, cropped
        of_lr = np.hstack([np.zeros_like(of_hr[:, :2]), of_hr[:, 2:] // scale])
    bytes_, _, *sizes = np.moveaxis(np.stack([of_lr, of_hr], axis=1), 2, 0)  # each (n, 2)
    pairs = Pairs(names, lr_files, hr_files, np.stack(sizes, axis=2), bytes_)
    surplus = of_hr[:, 2:] - scale * of_lr[:, 2:]
    fits = ((of_lr[:, 2:] > 0) & (surplus >= 0) & (surplus < scale)).all(axis=1)
    if not fits.all():
        raise _misfit([pairs[each] for each in np.flatnonzero(~fits).tolist()], scale)
    return pairs


def _lr_files(
    names: Sequence[str], hr: Mapping[str, str | Path], lr: Mapping[str, str | Path], scale: int
) -> list[str]:
    """The LR file of each of ``names``; MissingInputError (66) for one that has none, or an LR image without HR."""
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
    return [str(lr[of_hr[name]]) for name in names]


def _misfit(wrong: Sequence[Pair], scale: int) -> BadInputError:
    """What is wrong with the sizes of these pairs."""
    pair = wrong[0]
    others = f"; {len(wrong)} such pairs: {first_names(each.name for each in wrong)}" if len(wrong) > 1 else ""
    if pair.lr is None:
        return BadInputError(f"{pair.hr}: {_text(pair.hr_size)} is too small for x{scale}{others}")
    return BadInputError(
        f"{pair.lr} is {_text(pair.lr_size)} but {pair.hr} is {_text(pair.hr_size)}: expected "
        f"{_text((pair.hr_size[0] // scale, pair.hr_size[1] // scale))} at x{scale}{_guess(pair, scale)}{others}"
    )


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

"""Finds the (LR, HR) pairs of a set and checks them by their headers, before any work starts.

Layouts, `s` being the scale; names of folders are matched without regard to case, `x{s}` is optional:

    {data_path}/benchmark/{set}/HR/*.png          {data_path}/benchmark/{set}/LR_bicubic/X{s}/{stem}x{s}.png
    {data_path}/{set}/HR/*.png                    {data_path}/{set}/LR_bicubic/X{s}/{stem}x{s}.png
    {data_path}/{set}/{set}_train_HR/*.png        {data_path}/{set}/{set}_train_LR_bicubic/X{s}/{stem}x{s}.png
    {data_path}/{set}/{set}_HR/*.png              {data_path}/{set}/{set}_LR_bicubic/X{s}/{stem}x{s}.png

and in ``benchmark/{set}`` or ``{set}`` the copy that is cropped to multiples of 12, ``GTmod12`` and ``LRbicx{s}``.
It is called ``{set} mod12``; the plain name means it only where there is no other copy.
"""

import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ssiu.data.catalog import MOD12, SETS, known_name, spellings, usual_name
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.images.io import image_size

CARD = "card.json"  # of a set that `ssiu prepare --teacher` made, in its folder
VALIDATION = "_val"  # ends the name of the set that `ssiu prepare --holdout` keeps for validation
HEADER_READERS = 16  # threads: on network disks the wait is latency


@dataclass(frozen=True)
class Pair:
    """An LR image and its HR image; sizes are (height, width) from the headers.

    ``0 <= hr_size - scale * lr_size < scale`` for both sides: HR is cropped right and bottom where it is used.
    """

    name: str
    lr: Path
    hr: Path
    lr_size: tuple[int, int]
    hr_size: tuple[int, int]


def child(folder: Path, name: str) -> Path:
    """``folder / name``, or the entry that differs only in case."""
    if folder.is_dir() and not (folder / name).exists():
        for entry in sorted(folder.iterdir()):
            if entry.name.lower() == name.lower():
                return entry
    return folder / name


def image_files(folder: Path) -> list[Path]:
    """What in a folder has an image's name, sorted; hidden files and other kinds of files are passed over."""
    named = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((path for path in named if not path.name.startswith(".")), key=lambda path: path.stem)


def list_images(folder: Path) -> dict[str, Path]:
    """`image_files` by stem.

    Raises MissingInputError (66) when the folder is absent or has none, BadInputError (65) when two share a stem.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder")
    images: dict[str, Path] = {}
    for path in image_files(folder):
        if path.stem in images:
            raise BadInputError(f"{folder}: {images[path.stem].name} and {path.name} have one name; remove one of them")
        images[path.stem] = path
    if not images:
        raise MissingInputError(f"{folder}: holds no images; expected {', '.join(IMAGE_SUFFIXES)} files")
    return images


@dataclass(frozen=True)
class SetFolders:
    """Where the images of a set lie; ``name`` names the copy, such as ``Set5 mod12``."""

    name: str
    hr: Path
    lr_root: Path
    lr_name: str = "X{}"

    def lr(self, scale: int) -> Path:
        """The LR folder of a scale, which may be absent."""
        return child(self.lr_root, self.lr_name.format(scale))

    def lr_folders(self) -> dict[int, Path]:
        """The LR folders that are there, by scale."""
        return {scale: self.lr(scale) for scale in range(2, 9) if self.lr(scale).is_dir()}


def set_folders(data_path: Path, set_name: str) -> SetFolders | None:
    """The folders of a set, or None when no layout fits."""
    if set_name != Path(set_name).name:  # a path, perhaps out of data_path
        return None
    usual = usual_name(set_name)
    for name in dict.fromkeys((set_name, *spellings(usual))):
        found = [copy for root in _roots(data_path, name) for copy in copies(root)]
        if usual != set_name != name:
            found = [copy for copy in found if copy.name.endswith(MOD12)]
        if found:
            return min(found, key=lambda copy: copy.name.endswith(MOD12))  # mod12 only where it is the only one
    return None


def _roots(data_path: Path, name: str) -> tuple[Path, Path]:
    return child(child(data_path, "benchmark"), name), child(data_path, name)


def folder_of(data_path: Path, set_name: str) -> Path | None:
    """The folder of that name where a set would lie, whatever is in it."""
    return next((root for root in _roots(data_path, set_name) if root.is_dir()), None)


def copies(root: Path) -> Iterator[SetFolders]:
    """The copies of a set in its folder, the one that is read first."""
    name = root.name
    for hr, lr in (
        ("HR", "LR_bicubic"),
        (f"{name}_train_HR", f"{name}_train_LR_bicubic"),
        (f"{name}_HR", f"{name}_LR_bicubic"),
    ):
        if child(root, hr).is_dir():
            yield SetFolders(name, child(root, hr), child(root, lr))
    if child(root, "GTmod12").is_dir():
        yield SetFolders(name + MOD12, child(root, "GTmod12"), root, "LRbicx{}")


def available_sets(data_path: Path) -> list[str]:
    """Names of the sets that lie under ``data_path``, sorted."""
    roots = [folder for folder in (data_path, child(data_path, "benchmark")) if folder.is_dir()]
    names = {path.name for root in roots for path in root.iterdir() if path.is_dir()}
    return sorted({copy.name for name in names for root in _roots(data_path, name) for copy in copies(root)})


def find_pairs(data_path: str | Path, set_name: str, scale: int) -> list[Pair]:
    """All pairs of a set, sorted by name.

    Raises:
        MissingInputError (66): the set, its ``X{scale}`` folder or single images are not there.
        BadInputError (65): a size that cannot be HR / scale, or a header that cannot be read; the file is named.
    """
    folders = require_set(Path(data_path), set_name)
    if not folders.lr(scale).is_dir():
        raise MissingInputError(
            f"data set '{folders.name}' has no x{scale} LR images: {folders.lr(scale)} is missing; "
            f"make them: {prepare_command(folders.hr, [scale])}"
        )
    return match_pairs(list_images(folders.hr), list_images(folders.lr(scale)), scale)


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
    """The LR stem of each HR stem that has one, ``NAMEx{scale}`` or ``NAME``; no LR image belongs to two."""
    full = {stem: f"{stem}x{scale}" for stem in hr}
    there = set(lr)
    bare = there.difference(full.values())
    return {stem: stem for stem in full if stem in bare} | {stem: x for stem, x in full.items() if x in there}


def match_pairs(hr: dict[str, Path], lr: dict[str, Path], scale: int) -> list[Pair]:
    """Pairs up images by stem (LR with or without ``x{scale}``) and checks every size; errors as `find_pairs`."""
    of_hr = lr_names(hr, lr, scale)
    missing = [stem for stem in hr if stem not in of_hr]
    extra = sorted(set(lr) - set(of_hr.values()))
    if missing or extra:
        hr_folder, lr_folder = next(iter(hr.values())).parent, next(iter(lr.values())).parent
        problems = []
        if missing:
            problems.append(f"{len(missing)} HR images have no LR image in {lr_folder}: {first_names(missing)}")
        if extra:
            problems.append(f"{len(extra)} LR images have no HR image in {hr_folder}: {first_names(extra)}")
        raise MissingInputError(f"{'; '.join(problems)} (expected NAMEx{scale} for every NAME)")

    pairs = [(stem, lr[name], hr[stem]) for stem, name in sorted(of_hr.items())]
    with ThreadPoolExecutor(HEADER_READERS) as pool:
        sizes = list(pool.map(lambda pair: (image_size(pair[1]), image_size(pair[2])), pairs))
    found = [Pair(*pair, *size) for pair, size in zip(pairs, sizes, strict=True)]
    wrong = [pair for pair in found if not sizes_fit(pair.lr_size, pair.hr_size, scale)]
    if wrong:
        pair = wrong[0]
        names = f"; {len(wrong)} such pairs: {first_names(pair.name for pair in wrong)}" if len(wrong) > 1 else ""
        raise BadInputError(
            f"{pair.lr} is {_text(pair.lr_size)} but {pair.hr} is {_text(pair.hr_size)}: expected "
            f"{_text(tuple(side // scale for side in pair.hr_size))} at x{scale}{_guess(pair, scale)}{names}"
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

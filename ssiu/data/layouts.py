"""Where the images of a set lie: one table of the layouts that are read."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ssiu.data.catalog import MOD12, spellings
from ssiu.errors import BadInputError, MissingInputError
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.images.io import image_size


class Layout(NamedTuple):
    """Folders in that of a set; ``{set}`` is its name and ``{s}`` the scale.

    Of ``lr`` the first folder that is there is read, and the first is written. One without a scale holds the images of
    the only scale there is. ``copy`` ends the name of a set of this layout.
    """

    hr: str
    lr: tuple[str, ...]
    copy: str = ""

    def at(self, root: Path) -> "SetFolders":
        """The folders of the set in ``root``."""
        names = tuple(name.replace("{set}", root.name) for name in self.lr)
        return SetFolders(root.name + self.copy, child(root, self.hr.replace("{set}", root.name)), root, names)


LAYOUTS = (
    Layout("HR", ("LR_bicubic/X{s}", "LR/X{s}", "LR/{s}x", "X{s}", "{s}x", "LR_bicubic", "LR")),
    Layout("{set}_train_HR", ("{set}_train_LR_bicubic/X{s}", "X{s}")),
    Layout("{set}_HR", ("{set}_LR_bicubic/X{s}", "X{s}")),
    Layout("GT", ("LR_bicubic/X{s}", "LQ/X{s}", "X{s}", "LQ")),
    Layout("GTmod12", ("LRbicx{s}",), MOD12),
    Layout("{set}_train_HR_sub", ("{set}_train_LR_bicubic/X{s}_sub", "X{s}_sub"), " sub"),
)
"""In `{data_path}/{set}` and `{data_path}/benchmark/{set}`, whatever the case; a set in several is read in the first.

The last two are copies beside the usual images, the crops to multiples of 12 and sub-images, called ``Set5 mod12`` and
``DIV2K sub``; the plain name means them only where there is no other.
"""

COPIES = tuple(layout.copy for layout in LAYOUTS if layout.copy)


@dataclass(frozen=True)
class SetFolders:
    """Where the images of a set lie; ``name`` names the copy, such as ``Set5 mod12``."""

    name: str
    hr: Path
    root: Path
    lr_names: tuple[str, ...]

    def lr(self, scale: int) -> Path:
        """The LR folder of a scale, or where it would be made."""
        found = [child(self.root, name.replace("{s}", str(scale))) for name in self.lr_names if "{s}" in name]
        return next((folder for folder in found if folder.is_dir()), found[0])

    def lr_to_read(self, scale: int) -> Path | None:
        """The LR folder of a scale, or the one without a scale; None where there is none and LR is to be made of HR."""
        folder = self.lr(scale)
        return folder if folder.is_dir() else self._lr_without_scale()

    def lr_folders(self) -> dict[int, Path]:
        """The LR folders that are there, by scale; that of one without is what its first image says."""
        if folder := self._lr_without_scale():
            return {_scale_of(self.hr, folder): folder}
        return self._scaled()

    def _scaled(self) -> dict[int, Path]:
        return {scale: self.lr(scale) for scale in range(2, 9) if self.lr(scale).is_dir()}

    def _lr_without_scale(self) -> Path | None:
        found = (child(self.root, name) for name in self.lr_names if "{s}" not in name)
        return None if self._scaled() else next((folder for folder in found if folder.is_dir()), None)


def _scale_of(hr: Path, lr: Path) -> int:
    """HR height / LR height of the first images; 1 without images. Raises BadInputError (65) where one is none."""
    firsts = [image_files(folder)[:1] for folder in (hr, lr)]
    if not all(firsts):
        return 1
    hr_height, lr_height = (image_size(Path(path))[0] for ((_, path),) in firsts)
    return max(round(hr_height / lr_height), 1)


def child(folder: Path, name: str) -> Path:
    """``folder / name``, each part of the name being the entry that differs at most in case."""
    for part in Path(name).parts:
        if folder.is_dir() and not (folder / part).exists():
            part = min((entry.name for entry in folder.iterdir() if entry.name.lower() == part.lower()), default=part)
        folder = folder / part
    return folder


def image_files(folder: Path) -> list[tuple[str, str]]:
    """Every image in a folder and those in it: its name from there on, without the suffix, and its path.

    They are sorted by name. Hidden files and folders and other kinds of files are passed over. Raises MissingInputError
    (66) for a folder that cannot be read. Paths are text, because a set may have 100,000 of them.
    """

    def refuse(error: OSError) -> None:
        raise MissingInputError(f"{error.filename}: cannot be read ({error.strerror})")

    found, seen = [], {os.path.realpath(folder)}  # a link may lead back, or two to one folder
    for inside, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = {os.path.realpath(f"{inside}/{name}"): name for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for path, name in real.items() if path not in seen]
        seen.update(real)
        prefix = f"{inside}/"[len(str(folder)) + 1 :].replace(os.sep, "/")
        for file in files:
            stem, dot, suffix = file.rpartition(".")
            if dot + suffix.lower() in IMAGE_SUFFIXES and not file.startswith("."):
                found.append((prefix + stem, f"{inside}/{file}"))
    return sorted(found)


def list_files(folder: Path) -> dict[str, str]:
    """`image_files` by name.

    Raises MissingInputError (66) when the folder is absent or has none, BadInputError (65) when two have one name.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder")
    found = image_files(folder)
    images = dict(found)
    if len(images) < len(found):
        one, other = next((a, b) for (a, b) in pairwise(found) if a[0] == b[0])
        files = [Path(path) for _, path in (one, other)]
        raise BadInputError(
            f"{files[0].parent}: {files[0].name} and {files[1].name} have the same name; remove one of them"
        )
    if not images:
        raise MissingInputError(f"{folder}: holds no images; expected {', '.join(IMAGE_SUFFIXES)} files")
    return images


def list_images(folder: Path) -> dict[str, Path]:
    """`list_files` as paths."""
    return {name: Path(file) for name, file in list_files(folder).items()}


def set_folders(data_path: Path, set_name: str) -> SetFolders | None:
    """The folders of a set, or None when no layout fits."""
    if set_name != Path(set_name).name:  # a path, perhaps out of data_path
        return None
    copy = next((copy for copy in COPIES if set_name.lower().endswith(copy)), "")
    for name in dict.fromkeys((set_name, *spellings(set_name[: len(set_name) - len(copy)]))):
        found = [each for root in _roots(data_path, name) for each in copies(root)]
        if copy and name != set_name:
            found = [each for each in found if each.name.endswith(copy)]
        if found:
            return min(found, key=lambda each: each.name.endswith(COPIES))  # a copy only where there is nothing else
    return None


def _roots(data_path: Path, name: str) -> tuple[Path, Path]:
    return child(data_path, f"benchmark/{name}"), child(data_path, name)


def folder_of(data_path: Path, set_name: str) -> Path | None:
    """The folder of that name where a set would lie, whatever is in it."""
    return next((root for root in _roots(data_path, set_name) if root.is_dir()), None)


def available_sets(data_path: Path) -> list[str]:
    """Names of the sets that lie under ``data_path``, sorted."""
    roots = [folder for folder in (data_path, child(data_path, "benchmark")) if folder.is_dir()]
    names = {path.name for root in roots for path in root.iterdir() if path.is_dir()}
    return sorted({copy.name for name in names for root in _roots(data_path, name) for copy in copies(root)})


def copies(root: Path) -> Iterator[SetFolders]:
    """The copies of a set in its folder, the one that is read first."""
    yield from (folders for layout in LAYOUTS if (folders := layout.at(root)).hr.is_dir())

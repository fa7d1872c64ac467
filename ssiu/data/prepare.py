"""Makes data sets: LR images from HR ones, and DF2K from its two downloads."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssiu.data.catalog import SETS
from ssiu.data.layouts import LAYOUTS, SetFolders, copies, image_files, list_images
from ssiu.data.links import is_placed, place_hr
from ssiu.data.pairs import VALIDATION, lr_names
from ssiu.errors import (
    BadInputError,
    ConfigError,
    MissingInputError,
    OutputError,
    SaveError,
    SSIUError,
    counted,
    first_names,
)
from ssiu.files import make_folder, remove_leftovers
from ssiu.images.bicubic import make_lr
from ssiu.images.io import image_size, read_rgb, save_image
from ssiu.images.parallel import in_parallel, raise_all


def make_pairs(hr_folder: Path, output: Path, scales: Sequence[int], copy: bool = False) -> int:
    """Writes ``output/HR`` (links, or copies) and ``output/LR_bicubic/X{s}/{stem}x{s}.png`` for every image.

    LR images that are there, newer than their HR image and of the right size are kept, so an interrupted run
    can be repeated. Where ``hr_folder`` is that of a set in ``output``, of any layout, only the LR images of that set
    are written. Returns their number.

    Raises MissingInputError (66), BadInputError (65) or OutputError (73) naming images that are damaged, too small or
    have too long a name after all the others were done, OutputError (73) when some are held out in ``{output}_val``
    and what `place_hr` raises, SaveError (74).
    """
    images = list_images(hr_folder)
    for folders in copies(output):
        if folders.hr.samefile(hr_folder):
            return make_lr_folders(images, folders, scales)
    _refuse_inside(hr_folder, output)
    validation = _validation_set(output)
    held = _there(validation)
    both = sorted(images.keys() & held.keys())
    if shared := [stem for stem in both if is_placed(images[stem], held[stem]) or not held[stem].exists()]:
        raise OutputError(
            f"{validation.hr.parent} holds {len(shared)} of these images ({first_names(shared)}), which are not to be "
            f"trained on; add --holdout {len(held)}, the same split, or choose another --output"
        )
    folders = _new_set(output)
    place_hr(images, folders, copy)
    return make_lr_folders(images, folders, scales)


class Split(NamedTuple):
    """What `make_split` did: the names in both sets, and how many LR images were written."""

    training: list[str]
    held: list[str]
    lr_images: int


def make_split(
    hr_folder: Path,
    output: Path,
    scales: Sequence[int],
    holdout: int,
    copy: bool = False,
    group: re.Pattern[str] | None = None,
) -> Split:
    """`make_pairs` for all images but ``holdout``, which become the validation set ``{output}_val`` in the same way.

    They are spread evenly over the sorted names. Names that begin with the same match of ``group`` (its first group
    where it has one), such as tiles of one photograph, go into one set: then as many are held out, or a few more. A set
    that was made before keeps its images, so photographs that came meanwhile are trained on, unless they belong to a
    group that is held out; the images of one that was interrupted are added to.

    Raises ConfigError (78) when nothing would be left to train on or ``group`` fits no name, OutputError (73) when
    ``output`` holds images that are to be held out, or ``{output}_val`` another number or some that are gone, and what
    `make_pairs` raises.
    """
    images = list_images(hr_folder)
    _refuse_inside(hr_folder, output)
    training, validation = _new_set(output), _validation_set(output)
    held = _held_out(list(images), holdout, group)
    placed = _there(validation).keys()
    interrupted = placed < set(held) and not training.hr.is_dir()
    if placed and not interrupted:
        if gone := sorted(placed - images.keys()):
            raise OutputError(
                f"{hr_folder} no longer has {first_names(gone)}, held out in {validation.hr.parent}; put back what is "
                f"missing, or for a new split remove {validation.hr.parent} and {output}"
            )
        if len(placed) < holdout or (len(placed) > holdout and group is None):
            raise OutputError(
                f"{validation.hr.parent} holds {len(placed)} images already ({first_names(sorted(placed))}), not "
                f"{holdout} of these; for a new split remove it and {output}"
            )
        kept = {_group_of(name, group) for name in placed}
        held = [name for name in images if _group_of(name, group) in kept]
    if trained_on := sorted(_there(training).keys() & held):
        raise OutputError(
            f"{output} already has images that are to be held out ({first_names(trained_on)}); remove {output} or "
            "choose another --output"
        )
    results: list[int | SSIUError] = []
    trained = [name for name in images if name not in set(held)]
    for folders, names in ((validation, held), (training, trained)):
        part = {name: images[name] for name in names}
        place_hr(part, folders, copy)
        results += _make_lr(part, folders, scales)
    return Split(trained, held, _total(results))


def _held_out(names: list[str], holdout: int, group: re.Pattern[str] | None) -> list[str]:
    """Whole groups of ``names``, spread evenly, that have at least ``holdout`` of them."""
    if len(names) < 2:
        raise ConfigError(f"--holdout {holdout}: there is one image; at least two are needed")
    if not 0 < holdout < len(names):
        raise ConfigError(f"--holdout {holdout}: expected 1 to {len(names) - 1} of the {counted(len(names), 'image')}")
    if group and not any(map(group.match, names)):
        raise ConfigError(f"--group {group.pattern}: no name begins with it; the names are {first_names(names)}")
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_group_of(name, group), []).append(name)
    parts = list(groups.values())
    for count in range(-(-holdout // max(map(len, parts))), len(parts)):
        held = [name for i in range(count) for name in parts[(2 * i + 1) * len(parts) // (2 * count)]]
        if len(held) >= holdout:
            return held
    raise ConfigError(f"--holdout {holdout}: that would leave none of the {len(parts)} groups of --group to train on")


def _group_of(name: str, group: re.Pattern[str] | None) -> str:
    match = group and group.match(name)
    return (match and match[min(match.re.groups, 1)]) or name


def _refuse_inside(hr_folder: Path, output: Path) -> None:
    """OutputError (73) where the set would be among the photographs: the next time it would be read with them."""
    if output.resolve().is_relative_to(hr_folder.resolve()):
        raise OutputError(f"{output} is inside {hr_folder}, whose folders are read, too; choose another --output")


def _new_set(output: Path) -> SetFolders:
    return LAYOUTS[0].at(output)


def _validation_set(output: Path) -> SetFolders:
    return _new_set(output.with_name(output.name + VALIDATION))


def _there(folders: SetFolders) -> dict[str, Path]:
    """The HR images of a set by stem; none where its folder is empty or absent, as an interrupted command leaves it."""
    return {name: Path(path) for name, path in image_files(folders.hr)} if folders.hr.is_dir() else {}


def make_lr_folders(images: dict[str, Path], folders: SetFolders, scales: Sequence[int], replace: bool = True) -> int:
    """Writes ``{stem}x{s}.png`` of every image (stem -> HR file) into the LR folder of each scale.

    An image that is there as ``{stem}.png`` keeps that name. Without ``replace`` what is there stays as it is, right
    or wrong. Returns the number of images written; errors as `make_pairs`.
    """
    return _total(_make_lr(images, folders, scales, replace))


def _total(results: Sequence[int | SSIUError]) -> int:
    raise_all([result for result in results if isinstance(result, SSIUError)])
    return sum(result for result in results if isinstance(result, int))


def _make_lr(
    images: dict[str, Path], folders: SetFolders, scales: Sequence[int], replace: bool = True
) -> list[int | SSIUError]:
    """`make_lr_folders` with one result for each image: how many LR images were written, or what is wrong with it."""
    if not scales:
        return []
    lr_folders = {scale: make_folder(folders.lr(scale)) for scale in scales}
    for each in lr_folders.values():
        remove_leftovers(each)
    there = {s: lr_names(images, {name for name, _ in image_files(each)}, s) for s, each in lr_folders.items()}

    def make(item: tuple[str, Path]) -> int | SSIUError:
        stem, path = item
        try:
            height, width = image_size(path)
            if min(height, width) < max(scales):
                raise BadInputError(f"{path}: {width}x{height} is too small for x{max(scales)}")
            wanted = [s for s in scales if replace or stem not in there[s]]
            targets = {s: lr_folders[s] / f"{there[s].get(stem, f'{stem}x{s}')}.png" for s in wanted}
            targets = {s: lr for s, lr in targets.items() if not is_done(lr, path, (height // s, width // s))}
            if targets:
                hr = read_rgb(path)
                for scale, target in targets.items():
                    make_folder(target.parent)
                    save_image(target, make_lr(hr, scale))
            return len(targets)
        except SaveError:
            raise
        except SSIUError as error:
            return error
        except Exception as error:  # whatever one file does must not stop the others
            return BadInputError(f"{path}: {type(error).__name__}: {error}")

    return list(in_parallel(make, list(images.items()), "making LR"))


def is_done(target: Path, source: Path, size: tuple[int, int]) -> bool:
    """Whether ``target`` is a whole image of ``size``, made after ``source`` last changed."""
    try:
        return _changed(target) >= _changed(source) and image_size(target) == size
    except (OSError, SSIUError):
        return False


def _changed(path: Path) -> int:
    """When a file got its content or its name, which may be that of another image with an older time."""
    status = path.stat()
    return max(status.st_mtime_ns, status.st_ctime_ns)


def make_df2k(
    div2k: Path, flickr2k: Path, output: Path, scales: Sequence[int], copy: bool = False, replace: bool = True
) -> int:
    """Lays out ``output/DF2K`` (3,450 images) from the two downloads as they were unpacked.

    ``div2k`` is or holds the folder DIV2K_train_HR (0001-0800), ``flickr2k`` Flickr2K_HR (000001-002650, which
    become 0901-3550). Returns the number of LR images written; ``replace`` as `make_lr_folders`, errors as
    `make_pairs`.
    """
    images: dict[str, Path] = {}
    for name, root, folder in (("DIV2K", div2k, "DIV2K_train_HR"), ("Flickr2K", flickr2k, "Flickr2K_HR")):
        found = list_images(_find_folder(root, folder))
        names = SETS["DF2K"].names_of_part(name)
        missing = [stem for stem in names if stem not in found]
        if missing:
            count = f"{len(missing)} of {len(names)}"
            raise MissingInputError(f"{name} in {root}: {count} images are missing: {first_names(missing)}")
        images |= {new: found[stem] for stem, new in names.items()}
    root = output / "DF2K"
    folders = next(layout for layout in LAYOUTS if layout.hr == "{set}_train_HR").at(root)
    place_hr(images, folders, copy)
    return make_lr_folders(images, folders, scales, replace)


def _find_folder(root: Path, name: str) -> Path:
    """``root`` itself when it has that name, else the folder of that name up to two levels below."""
    for pattern in (name, f"*/{name}"):
        for folder in sorted(root.glob(pattern)):
            if folder.is_dir():
                return folder
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; expected the one that holds {name}")
    return root

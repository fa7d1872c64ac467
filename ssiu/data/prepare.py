"""Makes data sets: LR images from HR ones, and DF2K from its two downloads."""

import filecmp
import os
from collections.abc import Sequence
from pathlib import Path

from ssiu.data.bicubic import make_lr
from ssiu.data.decoding import open_file
from ssiu.data.images import image_size, read_rgb, save_image
from ssiu.data.pairs import SetFolders, copies, image_files, list_images, lr_names
from ssiu.data.parallel import in_parallel, raise_all
from ssiu.errors import BadInputError, ConfigError, MissingInputError, OutputError, SaveError, SSIUError, first_names
from ssiu.files import make_folder, remove_leftovers, write_atomically
from ssiu.progress import Progress

DF2K_NAMES = {
    "DIV2K": {f"{i:04}": f"{i:04}" for i in range(1, 801)},
    "Flickr2K": {f"{i:06}": f"{i + 900:04}" for i in range(1, 2651)},
}
"""Names in the downloads -> names in DF2K: 0001-0800 and 0901-3550."""


def make_pairs(hr_folder: Path, output: Path, scales: Sequence[int], copy: bool = False) -> int:
    """Writes ``output/HR`` (links, or copies) and ``output/LR_bicubic/X{s}/{stem}x{s}.png`` for every image.

    LR images that are there, newer than their HR image and of the right size are kept, so an interrupted run
    can be repeated. Where ``hr_folder`` is that of a set in ``output``, of any layout, only the LR images of that set
    are written. Returns their number.

    Raises MissingInputError (66), BadInputError (65) or OutputError (73) naming images that are damaged, too small or
    have too long a name after all the others were done, SaveError (74).
    """
    images = list_images(hr_folder)
    for folders in copies(output):
        if folders.hr.samefile(hr_folder):
            return make_lr_folders(images, folders, scales)
    place_hr(images, output / "HR", copy)
    return make_lr_folders(images, _new_set(output), scales)


def _new_set(output: Path) -> SetFolders:
    return SetFolders(output.name, output / "HR", output / "LR_bicubic")


def make_split(hr_folder: Path, output: Path, scales: Sequence[int], holdout: int, copy: bool = False) -> int:
    """`make_pairs` for all images but ``holdout``, which become the validation set ``{output}_val`` in the same way.

    They are spread evenly over the sorted names. A set that was made before keeps its images, so photographs that came
    meanwhile are all trained on; the images of one that was interrupted are added to. Returns the number of LR images
    written.

    Raises ConfigError (78) when nothing would be left to train on, OutputError (73) when ``output`` holds images that
    are to be held out, or ``{output}_val`` another number, and what `make_pairs` raises.
    """
    images = list_images(hr_folder)
    if not 0 < holdout < len(images):
        raise ConfigError(f"--holdout {holdout}: expected 1 to {len(images) - 1} of the {len(images)} images")
    validation = output.with_name(f"{output.name}_val")
    names = list(images)
    held = [names[(2 * index + 1) * len(names) // (2 * holdout)] for index in range(holdout)]
    placed = _stems(validation / "HR")
    interrupted = placed < set(held) and not (output / "HR").is_dir()
    if placed and not interrupted:
        held = sorted(placed)
        if len(held) != holdout or not images.keys() >= placed:
            raise OutputError(
                f"{validation} holds {len(held)} images already ({first_names(held)}), not {holdout} of these; "
                f"for a new split remove it and {output}"
            )
    if trained_on := sorted(set(held) & _stems(output / "HR")):
        raise OutputError(
            f"{output} already has images that are to be held out ({first_names(trained_on)}); remove {output} or "
            "choose another --output"
        )
    made = 0
    for folder, names in ((validation, held), (output, [name for name in images if name not in held])):
        part = {name: images[name] for name in names}
        place_hr(part, folder / "HR", copy)
        made += make_lr_folders(part, _new_set(folder), scales)
    return made


def _stems(folder: Path) -> set[str]:
    """The names of the images in ``folder``; none where it is empty or absent, as an interrupted command leaves it."""
    try:
        return set(list_images(folder))
    except MissingInputError:
        return set()


def place_hr(images: dict[str, Path], folder: Path, copy: bool) -> None:
    """Links or copies ``images`` (new stem -> file) into ``folder``; what is there under such a name must be it.

    Raises OutputError (73) when another file has the name, also an older content of the same file, SaveError (74).
    """
    remove_leftovers(make_folder(folder))
    for stem, path in Progress(images.items(), desc="placing HR", unit="images", leave=False):
        target = folder / (stem + path.suffix.lower())
        try:
            if _is_placed(path, target, copy):
                continue
            if copy:
                _copy(path, target)
            else:
                target.symlink_to(path.resolve())
        except (BadInputError, MissingInputError):
            continue  # no file: it will be named when its LR images are made
        except FileExistsError:
            if not _is_placed(path, target, copy):  # another run may have placed it just now
                raise OutputError(
                    f"{target} exists and is not {path} as it is now; remove it or choose another --output"
                ) from None
        except OSError as error:
            raise OutputError(f"cannot make {target}: {error.strerror}; use --copy or another --output") from None


def _is_placed(path: Path, target: Path, copy: bool) -> bool:
    """Whether ``target`` is a link to ``path``, or a copy: the same size and time, or the same content."""
    return target.exists() and (target.samefile(path) or (copy and filecmp.cmp(path, target)))


def _copy(path: Path, target: Path) -> None:
    """Copies content and time of ``path``; FileExistsError where ``target`` exists."""
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        write_atomically(target, file.read(), overwrite=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def make_lr_folders(images: dict[str, Path], folders: SetFolders, scales: Sequence[int], replace: bool = True) -> int:
    """Writes ``{stem}x{s}.png`` of every image (stem -> HR file) into the LR folder of each scale.

    An image that is there as ``{stem}.png`` keeps that name. Without ``replace`` what is there stays as it is, right
    or wrong. Returns the number of images written; errors as `make_pairs`.
    """
    lr_folders = {scale: make_folder(folders.lr(scale)) for scale in scales}
    for each in lr_folders.values():
        remove_leftovers(each)
    there = {s: lr_names(images, {path.stem for path in image_files(each)}, s) for s, each in lr_folders.items()}

    def make(item: tuple[str, Path]) -> int | SSIUError:
        stem, path = item
        try:
            height, width = image_size(path)
            if min(height, width) < max(scales):
                raise BadInputError(f"{path}: {width}x{height} is too small for x{max(scales)}")
            wanted = [s for s in scales if replace or stem not in there[s]]
            targets = {s: lr_folders[s] / f"{there[s].get(stem, f'{stem}x{s}')}.png" for s in wanted}
            targets = {s: lr for s, lr in targets.items() if not _is_done(lr, path, (height // s, width // s))}
            if targets:
                hr = read_rgb(path)
                for scale, target in targets.items():
                    save_image(target, make_lr(hr, scale))
            return len(targets)
        except SaveError:
            raise
        except SSIUError as error:
            return error
        except Exception as error:  # whatever one file does must not stop the others
            return BadInputError(f"{path}: {type(error).__name__}: {error}")

    results = list(in_parallel(make, list(images.items()), "making LR"))
    raise_all([result for result in results if isinstance(result, SSIUError)])
    return sum(results)


def _is_done(target: Path, source: Path, size: tuple[int, int]) -> bool:
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
    images = {}
    for name, root, folder in (("DIV2K", div2k, "DIV2K_train_HR"), ("Flickr2K", flickr2k, "Flickr2K_HR")):
        found = list_images(_find_folder(root, folder))
        missing = [stem for stem in DF2K_NAMES[name] if stem not in found]
        if missing:
            count = f"{len(missing)} of {len(DF2K_NAMES[name])}"
            raise MissingInputError(f"{name} in {root}: {count} images are missing: {first_names(missing)}")
        images |= {new: found[stem] for stem, new in DF2K_NAMES[name].items()}
    root = output / "DF2K"
    folders = SetFolders("DF2K", root / "DF2K_train_HR", root / "DF2K_train_LR_bicubic")
    place_hr(images, folders.hr, copy)
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

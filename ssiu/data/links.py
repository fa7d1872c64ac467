"""Puts the HR images of a set in place, as links to the photographs or as copies."""

import filecmp
import os
from pathlib import Path

from ssiu.data.layouts import SetFolders, image_files
from ssiu.errors import DISK_FULL, BadInputError, MissingInputError, OutputError, first_names
from ssiu.files import make_folder, remove_leftovers, write_atomically, write_error
from ssiu.images.decoding import open_file
from ssiu.progress import Progress


def place_hr(images: dict[str, Path], folders: SetFolders, copy: bool) -> None:
    """Links or copies ``images`` (new stem -> file) into the HR folder; what is there under such a name must be it.

    Links of an earlier run to images that are gone, or have another name now, go with their LR images.

    Raises OutputError (73) when another file has the name, also an older content of the same file, or when the folder
    holds other images, SaveError (74).
    """
    make_folder(folders.hr)
    _remove_dead_links(folders, {Path(os.path.realpath(path)).parent for path in images.values()})
    place(images, folders.hr, copy)


def place(images: dict[str, Path], folder: Path, copy: bool) -> None:
    """Links or copies ``images`` (new stem -> file) into ``folder``; errors as `place_hr`."""
    remove_leftovers(make_folder(folder))
    targets = {folder / (stem + path.suffix.lower()): path for stem, path in images.items()}
    there = (Path(file) for _, file in image_files(folder))
    if others := [str(path.relative_to(folder)) for path in there if path not in targets]:
        sources = " and ".join(sorted({str(path.parent) for path in images.values()}))
        raise OutputError(
            f"{folder} holds {len(others)} images that are not those of {sources}: {first_names(others)}; "
            "remove them and their LR images, or choose another --output"
        )
    for target, path in Progress(targets.items(), desc=f"placing {folder.name}", unit="images", leave=False):
        try:
            if is_placed(path, target):
                if not (copy and target.is_symlink()):
                    continue
                target.unlink()  # the link of an earlier run
            make_folder(target.parent)
            if copy:
                _copy(path, target)
            else:
                target.symlink_to(os.path.realpath(path))
        except (BadInputError, MissingInputError):
            continue  # no file: it will be named when its LR images are made
        except FileExistsError:
            if not is_placed(path, target):  # another run may have placed it just now
                raise OutputError(
                    f"{target} exists and is not {path} as it is now; remove it or choose another --output"
                ) from None
        except OSError as error:
            if error.errno in DISK_FULL:
                raise write_error(target, error, "free some space and run the same command again") from None
            raise OutputError(f"cannot make {target}: {error.strerror}; use --copy or another --output") from None


def is_placed(path: Path, target: Path) -> bool:
    """Whether ``target`` is a link to ``path``, or a copy: the same size and time, or the same content."""
    return target.exists() and (target.samefile(path) or filecmp.cmp(path, target))


def _remove_dead_links(folders: SetFolders, sources: set[Path]) -> None:
    """Removes the links to what there no longer is in ``sources``, and the LR images made of it."""
    for name, path in image_files(folders.hr):
        link = Path(path)
        if link.is_symlink() and not link.exists() and not sources.isdisjoint(link.readlink().parents):
            link.unlink()
            for scale, folder in folders.lr_folders().items():
                (folder / f"{name}x{scale}.png").unlink(missing_ok=True)


def _copy(path: Path, target: Path) -> None:
    """Copies content and time of ``path``; FileExistsError where ``target`` exists."""
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        write_atomically(target, file.read(), overwrite=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

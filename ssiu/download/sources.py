"""From the catalogue to sets in data_path and the authors' weights: fetched, verified, put in place.

What is already there is never written to. An HR folder appears under its name in one step, when all of it is right;
until then everything lies in ``.ssiu_download`` beside it, from where an interrupted command goes on. LR images and the
links of DF2K follow one by one.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ssiu.data.catalog import MOD12, SETS, Archive, Catalog, KnownSet, Source, facts_of
from ssiu.data.check import check_set
from ssiu.data.layouts import image_files, list_images, set_folders
from ssiu.data.pairs import prepare_command, require_set
from ssiu.data.prepare import make_df2k, make_lr_folders
from ssiu.download.http import fetch, mismatch
from ssiu.download.unpack import unpack
from ssiu.errors import BadInputError, BusyError, ConfigError, OutputError, SSIUError
from ssiu.files import held, make_folder, require_space
from ssiu.images.parallel import raise_all
from ssiu.weights.formats import released_name

WORK = ".ssiu_download"
ELSEWHERE = "free some space or choose another folder with --to"


def obtain(catalog: Catalog, word: str, data_path: Path, scales: Sequence[int]) -> list[str]:
    """Puts the sets that ``word`` means (`KnownSet.get`) into ``data_path`` with LR images of ``scales``; their names.

    Raises what `fetch` raises when no source gives an archive, BadInputError (65) when an archive's images are not
    the right ones, SaveError (74) when the disk is too small, BusyError (75) when another download works there,
    ConfigError (78) where the catalogue has no archive of them, and for DF2K OutputError (73), before anything is
    fetched, when there is one that is incomplete and was not made here.
    """
    names = [name for name, known in catalog.sets.items() if known.get == word]
    if names == ["DF2K"]:
        _obtain_df2k(catalog, data_path, scales)
    else:
        obtain_sets(catalog, names, data_path, scales)
    return names


def obtain_sets(catalog: Catalog, names: Sequence[str], data_path: Path, scales: Sequence[int]) -> None:
    """As `obtain`, for sets by name; what is absent of the others in their archives comes, too."""
    archives = {word: archive for word, archive in catalog.archives.items() if set(names) & set(archive.sets)}
    if unknown := set(names).difference(*(archive.sets for archive in archives.values())):
        raise ConfigError(f"the list of sources has no archive with {', '.join(sorted(unknown))}")
    for word, archive in archives.items():
        _obtain_archive(catalog, word, archive, data_path)
    for name in names:
        folders = require_set(data_path, name)
        make_lr_folders(list_images(folders.hr), folders, scales, replace=False)


def obtain_weights(catalog: Catalog, folder: Path, scale: int) -> Path:
    """Puts the authors' file of ``scale`` into ``folder``; returns its path. Errors as `obtain`."""
    source = _released(catalog, scale)
    target = folder / released_name(scale)
    if not target.is_file():
        with _work_folder(folder, target.name) as work:
            require_space(work, source.about, target.name, ELSEWHERE)
            fetch(source, _fetched(work, source)).replace(target)
    require_released(catalog, target, scale)
    return target


def require_released(catalog: Catalog, path: Path, scale: int) -> None:
    """Raises OutputError (73) when the file at ``path`` is not the one the authors released for ``scale``."""
    if problem := mismatch(_released(catalog, scale), path):
        raise OutputError(f"{path} exists but is not the authors' release ({problem}); move it away and try again")


def by_hand(name: str, data_path: Path, scales: Sequence[int]) -> str:
    """How to put a known set in place without a download."""
    known = SETS[name]
    hr = data_path / known.hr
    apply = f"apply at {known.page}, then " if known.page else ""
    return f"{apply}put its {known.images} images into {hr} and make their LR: {prepare_command(hr, scales)}"


def _released(catalog: Catalog, scale: int) -> Source:
    if scale not in catalog.weights.files:
        raise ConfigError(f"the list of sources has no weights for x{scale}")
    return catalog.weights.files[scale]


def _is_there(data_path: Path, name: str) -> bool:
    """Whether the set is there in another copy than mod12."""
    folders = set_folders(data_path, name)
    return folders is not None and not folders.name.endswith(MOD12)


def _obtain_df2k(catalog: Catalog, data_path: Path, scales: Sequence[int]) -> None:
    stems = SETS["DF2K"].stems()
    if folders := set_folders(data_path, "DF2K"):
        there = image_files(folders.hr)
        if {name for name, _ in there} == stems:
            make_lr_folders(list_images(folders.hr), folders, scales, replace=False)
            return
        ours = all(Path(path).is_symlink() and name in stems for name, path in there)
        if not ours or folders.hr != data_path / SETS["DF2K"].hr:
            raise OutputError(
                f"{folders.hr} exists but does not have the {len(stems):,} images (python -m ssiu check lists "
                f"the differences); complete it or move {folders.hr.parent} away and try again"
            )
    obtain_sets(catalog, ["DIV2K", "Flickr2K"], data_path, [])
    div2k, flickr2k = (require_set(data_path, name).hr for name in ("DIV2K", "Flickr2K"))
    make_df2k(div2k, flickr2k, data_path, scales, replace=False)


def _obtain_archive(catalog: Catalog, word: str, archive: Archive, data_path: Path) -> None:
    """Puts the HR images of those sets of an archive into place that are absent."""

    def absent() -> list[str]:
        return [name for name in archive.sets if not _is_there(data_path, name)]

    if absent() or (data_path / WORK / word).exists():  # the latter of a command that was killed at its end
        with _work_folder(data_path, word) as work:
            if names := absent():  # as it is now that nobody else works here
                _from_any(archive.sources, lambda source: _place(catalog, archive, source, work, data_path, names))


def _place(
    catalog: Catalog, archive: Archive, source: Source, work: Path, data_path: Path, names: Sequence[str]
) -> None:
    """Fetches, unpacks, checks and places the HR images of the sets from one source."""
    path = _fetched(work, source)
    here = sum(file.stat().st_size for file in work.glob(f"{path.name}*"))
    needed = max(source.about - here, 0) + archive.unpacked
    require_space(work, needed, path.name, ELSEWHERE)
    fetch(source, path)
    staging = work / "unpacked"
    shutil.rmtree(staging, ignore_errors=True)
    sets = {name: catalog.sets[name] for name in names}
    try:
        unpack(path, {known.members: staging / known.hr for known in sets.values()})
        for name, known in sets.items():
            _check(staging, name, known)
    except BadInputError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if source.digest:  # the right archive, but it holds something else than was thought
            raise BadInputError(f"{source.url}: {error}; the archive is kept: {path}") from None
        path.unlink()
        raise BadInputError(f"{source.url}: {error}; nothing of it was kept") from None
    for known in sets.values():
        make_folder((data_path / known.hr).parent)
        (staging / known.hr).replace(data_path / known.hr)


def _check(staging: Path, name: str, known: KnownSet) -> None:
    """The number of images and, for the sets whose digests are known, their pixels."""
    count = len(list((staging / known.hr).glob("*")))
    if count != known.images:
        raise BadInputError(f"{count} images of {name} in it, expected {known.images}")
    for report in check_set(staging, name) if facts_of(name) else ():
        raise_all(report.problems)


def _from_any(sources: Sequence[Source], use: Callable[[Source], None]) -> None:
    """Uses the first source that works; when none does, raises the error of one that may work later, else the last."""
    problems: list[SSIUError] = []
    for source in sources:
        try:
            return use(source)
        except (BadInputError, BusyError) as error:
            problems.append(error)
    kind = BusyError if any(isinstance(problem, BusyError) for problem in problems) else BadInputError
    advice = "; run the same command again to go on" if kind is BusyError else ""
    raise kind("; ".join(map(str, problems)) + advice)


def _fetched(work: Path, source: Source) -> Path:
    """Where the file of a source goes; what came of it from one mirror is continued from the next."""
    return work / Path(urlsplit(source.url).path).name


@contextmanager
def _work_folder(folder: Path, name: str) -> Iterator[Path]:
    """``folder/.ssiu_download/name``, held by one process (the kernel's lock) and removed when all went well."""
    work = make_folder(make_folder(folder) / WORK) / name
    in_use = f"{work}: another download works there; wait for it, or choose another folder"
    with held(work.with_name(f"{name}.lock"), work, in_use, "--to"):
        yield make_folder(work)
        shutil.rmtree(work)

"""From the manifest `sources.yaml` to sets in data_path and the authors' weights: fetched, verified, put in place.

What is already there is never written to. An HR folder appears under its name in one step, when all of it is right;
until then everything lies in ``.ssiu_download`` beside it, from where an interrupted command goes on. LR images and the
links of DF2K follow one by one.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from ssiu.data.catalog import SETS, facts_of
from ssiu.data.check import check_set
from ssiu.data.pairs import image_files, list_images, set_folders
from ssiu.data.prepare import make_df2k, make_lr_folders
from ssiu.download.http import Connection, Model, Source, fetch, mismatch, require_space
from ssiu.download.unpack import unpack
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError, SSIUError
from ssiu.files import held, make_folder

MANIFEST = Path(__file__).with_name("sources.yaml")
ARCHIVES = {"benchmark": ("benchmark",), "div2k": ("div2k_train", "div2k_valid"), "flickr2k": ("flickr2k",)}
"""What `ssiu download` takes beside df2k and weights, and the archives it means."""

WORK = ".ssiu_download"


class SetFiles(Model):
    """A set in an archive: its HR folder in data_path, and the members that are its images."""

    hr: str
    images: int
    members: str
    licence: str

    @field_validator("members")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"{groups} groups, expected one: the name of the image")
        return value


class Archive(Model):
    """An archive with HR images, from the first of its sources that gives it; ``unpacked`` is the images' bytes."""

    unpacked: int
    sources: list[Source] = Field(min_length=1)
    sets: dict[str, SetFiles]


class WeightsFile(Model):
    """A file of weights and its one source."""

    name: str
    source: Source


class ReleasedWeights(Model):
    """The authors' files by scale."""

    licence: str
    files: dict[int, WeightsFile]


class OnRequest(Model):
    """A set that its owners give out themselves."""

    page: str
    hr: str
    images: int
    licence: str


class Manifest(Model):
    """`sources.yaml`, where every key is explained."""

    connection: Connection
    archives: dict[str, Archive]
    weights: ReleasedWeights
    by_application: dict[str, OnRequest]

    def archive(self, name: str) -> Archive:
        """Raises ConfigError (78) where the manifest is of somebody who left it out."""
        if name not in self.archives:
            raise ConfigError(f"the list of sources has no archive '{name}', only {', '.join(self.archives)}")
        return self.archives[name]

    def weights_file(self, scale: int) -> WeightsFile:
        """As `archive`."""
        if scale not in self.weights.files:
            raise ConfigError(f"the list of sources has no weights for x{scale}")
        return self.weights.files[scale]


def read_manifest(path: Path = MANIFEST) -> Manifest:
    """Raises MissingInputError (66), or ConfigError (78) naming the key that is wrong."""
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}; expected a file like ssiu/download/sources.yaml") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: key '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8, a 13th month, 5,000 brackets
        raise ConfigError(f"{path}: no YAML ({str(error).partition(chr(10))[0]})") from None


def obtain_sets(manifest: Manifest, name: str, data_path: Path, scales: Sequence[int]) -> list[str]:
    """Puts the sets of an archive into ``data_path`` and makes their LR images of ``scales``; returns their names.

    Raises what `fetch` raises when no source gives the archive, BadInputError (65) when an archive's images are not
    the right ones, SaveError (74) when the disk is too small, BusyError (75) when another download works there.
    """
    archive = manifest.archive(name)

    def absent() -> dict[str, SetFiles]:
        return {each: files for each, files in archive.sets.items() if not has_usual_copy(data_path, each)}

    if absent() or (data_path / WORK / name).exists():  # the latter of a command that was killed at its end
        with _work_folder(data_path, name) as work:
            if sets := absent():  # as it is now that nobody else works here
                _from_any(
                    archive.sources, lambda source: _obtain_images(manifest, archive, source, work, data_path, sets)
                )
    if scales:
        for folders in (set_folders(data_path, each) for each in archive.sets):
            make_lr_folders(list_images(folders.hr), folders, scales, replace=False)
    return list(archive.sets)


def obtain_df2k(manifest: Manifest, data_path: Path, scales: Sequence[int]) -> list[str]:
    """DIV2K and Flickr2K as the paper's list of 3,450 images in ``data_path/DF2K``; as `obtain_sets`.

    Raises OutputError (73) before anything is fetched when there is a DF2K that is incomplete and was not made here.
    """
    stems = SETS["DF2K"].stems()
    if folders := set_folders(data_path, "DF2K"):
        there = image_files(folders.hr)
        if {path.stem for path in there} == stems:
            make_lr_folders(list_images(folders.hr), folders, scales, replace=False)
            return ["DF2K"]
        ours = all(path.is_symlink() and path.stem in stems for path in there)
        if not ours or folders.hr != data_path / "DF2K/DF2K_train_HR":
            raise OutputError(
                f"{folders.hr} is there and not the list of {len(stems):,} images (python -m ssiu check says in "
                f"what it differs); complete it or move {folders.hr.parent} away and try again"
            )
    for name in ("div2k_train", "flickr2k"):
        obtain_sets(manifest, name, data_path, [])
    parts = (set_folders(data_path, name).hr for name in ("DIV2K", "Flickr2K"))
    make_df2k(*parts, data_path, scales, replace=False)
    return ["DF2K"]


def obtain_weights(manifest: Manifest, folder: Path, scales: Sequence[int]) -> list[Path]:
    """Puts the authors' files of ``scales`` into ``folder``; returns their paths. Errors as `obtain_sets`."""
    paths = []
    for scale in scales:
        file = manifest.weights_file(scale)
        target = folder / file.name
        if not target.is_file():
            with _work_folder(folder, file.name) as work:
                require_space(work, file.source.expected_bytes, file.name)
                fetch(file.source, _archive_path(work, file.source), manifest.connection).replace(target)
        require_released(manifest, target, scale)
        paths.append(target)
    return paths


def require_released(manifest: Manifest, path: Path, scale: int) -> None:
    """Raises OutputError (73) when the file at ``path`` is not the one the authors released for ``scale``."""
    problem = mismatch(manifest.weights_file(scale).source, path)
    if problem:
        raise OutputError(f"{path} is there but is not the authors' release ({problem}); move it away and try again")


def has_usual_copy(data_path: Path, name: str) -> bool:
    """Whether the set is there in another copy than mod12."""
    folders = set_folders(data_path, name)
    return folders is not None and folders.name.lower() == name.lower()


def _obtain_images(
    manifest: Manifest, archive: Archive, source: Source, work: Path, data_path: Path, sets: dict[str, SetFiles]
) -> None:
    """Fetches, unpacks, checks and places the HR images of ``sets`` from one source."""
    path = _archive_path(work, source)
    here = sum(file.stat().st_size for file in work.glob(f"{path.name}*"))
    require_space(work, max(source.expected_bytes - here, 0) + archive.unpacked, urlsplit(source.url).path)
    fetch(source, path, manifest.connection)
    staging = work / "unpacked"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        unpack(path, _placer(sets), make_folder(staging))
        for name, files in sets.items():
            _check_images(staging, name, files)
    except BadInputError as error:
        shutil.rmtree(staging)
        if source.digest:  # the right archive, but it holds something else than was thought
            raise BadInputError(f"{source.url}: {error}; the archive is kept: {path}") from None
        path.unlink()
        raise BadInputError(f"{source.url}: {error}; nothing of it was kept") from None
    for files in sets.values():
        target = data_path / files.hr
        make_folder(target.parent)
        (staging / files.hr).replace(target)


def _placer(sets: dict[str, SetFiles]) -> Callable[[str], str | None]:
    patterns = [(re.compile(files.members), files.hr) for files in sets.values()]

    def place(member: str) -> str | None:
        found = ((pattern.fullmatch(member), folder) for pattern, folder in patterns)
        return next((f"{folder}/{match[1]}" for match, folder in found if match), None)

    return place


def _check_images(staging: Path, name: str, files: SetFiles) -> None:
    """The number of images and, for the sets of `catalog.yaml`, the digest of their pixels."""
    folder = staging / files.hr
    count = len(list(folder.iterdir())) if folder.is_dir() else 0
    if count != files.images:
        raise BadInputError(f"{count} images of {name} in it, expected {files.images}")
    if facts_of(name):
        (report,) = check_set(staging, name)
        if report.problems:
            raise report.problems[0]


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


def _archive_path(work: Path, source: Source) -> Path:
    """Its own name for every source: what came from one is never continued from another."""
    return work / f"{Path(urlsplit(source.url).path).name}-{sha256(source.url.encode()).hexdigest()[:8]}"


@contextmanager
def _work_folder(folder: Path, name: str) -> Iterator[Path]:
    """``folder/.ssiu_download/name``, held by one process (the kernel's lock) and removed when all went well."""
    work = make_folder(make_folder(folder) / WORK) / name
    in_use = f"{work}: another download works there; wait for it, or choose another folder"
    with held(work.with_name(f"{name}.lock"), work, in_use, "--to"):
        yield make_folder(work)
        shutil.rmtree(work)

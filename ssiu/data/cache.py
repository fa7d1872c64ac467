"""Decoded images as memory-mapped uint8 .npy files, plane by plane as training wants them: a crop costs a crop.

One file per image, shared by all runs and processes, and one per scale for the LR images that are made of HR. Its name
is made of the source's path and of its size, modification time and inode, so a changed source is decoded again. Behind
the pixels stands a JSON line with the SHA-256 of the source file and of the pixels; `numpy.load` ignores it.

A set is decoded as a whole before training (`prepare`), or each image when it is first visited (`visit`), which may be
into a folder that is bounded: that is one of its own, because what a run has prepared must stay.
"""

import hashlib
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ssiu.data.bounded import BoundedFolder
from ssiu.errors import BadInputError, MissingInputError, SSIUError, first_names
from ssiu.files import held, make_folder, remove_leftovers, require_space, user_cache_folder, write_atomically
from ssiu.images.bicubic import make_lr
from ssiu.images.io import decode_rgb, image_size, read_bytes
from ssiu.images.parallel import in_parallel, raise_all

logger = logging.getLogger("ssiu")


class Source(NamedTuple):
    """An image file, or with a scale the LR image that is made of it."""

    path: Path
    scale: int = 1


@dataclass(frozen=True)
class CachedImage:
    """Where the pixels of an image lie: uint8 (3, height, width) at ``offset`` of ``path``."""

    path: Path
    offset: int
    shape: tuple[int, int, int]
    source_sha256: str
    pixels_sha256: str

    def open(self) -> np.ndarray:
        """The image, memory-mapped read-only. Raises MissingInputError (66) when it was removed meanwhile."""
        return _mapped(self.path, self.offset, self.shape)


MAPPED_IMAGES = 16_384  # DF2K has 6,900 files; this bounds the page tables


def _map(path: Path, offset: int, shape: tuple[int, int, int]) -> np.ndarray:
    size = offset + math.prod(shape)
    try:  # unlike numpy.memmap, this keeps no file descriptor: thousands of them would pass the usual limit
        pixels = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()[offset:].reshape(shape)
    except RuntimeError as error:
        raise MissingInputError(
            f"{path}: the cached image was removed or cut ({error}), perhaps because the data set changed; "
            "run the same command again to rebuild it"
        ) from None
    pixels.flags.writeable = False
    return pixels


_mapped = lru_cache(maxsize=MAPPED_IMAGES)(_map)  # mapping a file again costs more than copying a crop


def default_cache_folder(data_path: str | Path) -> Path:
    """``{data_path}/.ssiu_cache``, or a folder of the user's cache where the data is read-only."""
    beside = Path(data_path).absolute() / ".ssiu_cache"
    folder = beside if beside.exists() else beside.parent
    if os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222:  # root may write anywhere, but was not invited
        return beside
    return user_cache_folder("images")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _by_path(sources: Iterable[Source]) -> dict[Path, list[int]]:
    """The scales of each file: it is decoded once for all of them."""
    scales: dict[Path, list[int]] = {}
    for path, scale in sources:
        scales.setdefault(path, []).append(scale)
    return scales


class ImageCache:
    """The cache in ``folder``, which is created when something has to be written.

    With a ``limit`` in bytes images are only visited, and the folder inside that holds them is a `BoundedFolder`.
    """

    def __init__(self, folder: str | Path, limit: int | None = None):
        self.folder = Path(folder).absolute() / ("" if limit is None else "bounded")
        self.bounded = None if limit is None else BoundedFolder(self.folder, limit)

    def prepare(self, sources: Sequence[Source]) -> list[CachedImage]:
        """Decodes what is not cached yet, in parallel with a progress bar, and returns all in order.

        Runs that start together share the work: the first one builds, the others wait for it.

        Raises:
            MissingInputError (66): a source is not there.
            BadInputError (65): the header of a source cannot be read; or, once all have been decoded, the first that
                is damaged or of a kind that is not read, with the names of the others.
            OutputError (73), SaveError (74): the folder cannot be written, or has too little space.
        """
        cached: dict[Source, CachedImage] = {}

        def missing() -> list[Source]:
            left = [source for source in dict.fromkeys(sources) if source not in cached]
            cached.update((source, image) for source in left if (image := self._lookup(source)))
            return [source for source in left if source not in cached]

        if missing():
            waiting = f"waiting for another run that is filling the image cache {self.folder}"
            with held(make_folder(self.folder) / ".lock", self.folder, waiting, "cache_dir", patience=None):
                self._build(missing())
            if changed := missing():
                names = first_names(str(source.path) for source in changed)
                raise BadInputError(f"{names}: changed while being read; try again when nothing writes there")
        return [cached[source] for source in sources]

    def begin_visits(self, needed: int) -> None:
        """Before `visit`. Raises SaveError (74) where ``needed`` bytes, of all images, are more than the disk has."""
        if self.bounded:
            return
        remove_leftovers(make_folder(self.folder))
        if shutil.disk_usage(self.folder).free < needed:
            there = sum(file.stat().st_size for file in self.folder.glob("*.npy"))
            advice = "set cache_gb to bound it, or cache_dir to a folder with more space"
            require_space(self.folder, needed - there, "the image cache", advice)

    def visit(self, *sources: Source) -> list[np.ndarray]:
        """The pixels of each source, uint8 (3, H, W), decoded where it is not cached; for many processes at once.

        Raises MissingInputError (66) and BadInputError (65) for a source that is not there or cannot be read,
        OutputError (73), SaveError (74) and BusyError (75) for the folder.
        """
        found = {source: pixels for source in sources if (pixels := self._open(source)) is not None}
        for path, scales in _by_path(source for source in sources if source not in found).items():
            for scale, pixels in self._make(path, scales).items():
                kept = self._open(Source(path, scale))  # mapped: of thousands of images the process holds no copy
                found[Source(path, scale)] = pixels if kept is None else kept
        return [found[source] for source in sources]

    def _open(self, source: Source) -> np.ndarray | None:
        """The cached pixels of ``source``, or None."""
        image = self._lookup(source)
        try:
            pixels = _map(image.path, image.offset, image.shape) if image else None
        except MissingInputError:  # it has just gone for another one
            return None
        if image and self.bounded:
            self.bounded.visited(image.path)
        return pixels

    def file_of(self, source: Source) -> Path:
        """The .npy file that would hold ``source`` as it is now. Raises MissingInputError (66)."""
        path = source.path.resolve()
        try:
            status = path.stat()
        except OSError as error:
            raise MissingInputError(f"{path}: {error.strerror}") from None
        version = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
        made = f"-x{source.scale}" if source.scale > 1 else ""
        return self.folder / f"{_digest('planes of ' + str(path))}-{_digest(version)}{made}.npy"

    def verify(self, path: Path) -> SSIUError | bool:
        """Compares what is cached of ``path`` with its content: False when nothing is, True, or what is wrong."""
        found = [image for scale in range(1, 5) if (image := self._lookup(Source(path, scale)))]
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if found else ""
        for image in found:
            if digest != image.source_sha256:
                why = f"is of an older content of {path}"
            elif hashlib.sha256(image.open().data).hexdigest() != image.pixels_sha256:
                why = f"is damaged (it holds {path})"
            else:
                continue
            return BadInputError(f"{image.path}: this cached image {why}; remove it, it will be made again")
        return bool(found)

    def _lookup(self, source: Source) -> CachedImage | None:
        """What is cached for ``source``; None when that is nothing, or not a whole file."""
        path = self.file_of(source)
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                (planes, height, width), by_columns, dtype = np.lib.format.read_array_header_1_0(file)
                shape, offset = (planes, height, width), file.tell()
                file.seek(math.prod(shape), os.SEEK_CUR)
                facts = json.loads(file.read())
                image = CachedImage(path, offset, shape, facts["source_sha256"], facts["pixels_sha256"])
        except Exception:  # NumPy and JSON raise many kinds for a damaged file
            return None
        return image if (by_columns, dtype) == (False, np.uint8) else None

    def _build(self, sources: Sequence[Source]) -> None:
        """Writes the files of ``sources``; called with the lock held."""
        wanted = _by_path(sources)
        versions = dict(self.file_of(Source(path)).stem.split("-") for path in wanted)  # of each file, by its digest
        remove_leftovers(self.folder)
        for file in self.folder.glob("*-*.npy"):
            path_digest, _, version = file.stem.partition("-")
            if not version.startswith(versions.get(path_digest, version)):
                file.unlink()  # of what the source was before
        needed = 0
        for path, scales in wanted.items():
            height, width = image_size(path)
            needed += sum(3 * (height // scale) * (width // scale) for scale in scales)
        require_space(self.folder, needed, "the image cache", "set cache_dir to a folder with more space")
        results = in_parallel(self._problem, list(wanted.items()), "decoding images")
        raise_all([problem for problem in results if problem])
        if wanted:
            logger.info("decoded %d images into the cache %s", len(wanted), self.folder)

    def _problem(self, item: tuple[Path, list[int]]) -> SSIUError | None:
        """`_make`, returning what is wrong with the source."""
        try:
            self._make(*item)
        except (BadInputError, MissingInputError) as error:
            return error
        return None

    def _make(self, path: Path, scales: Sequence[int]) -> dict[int, np.ndarray]:
        """The pixels of a source and of LR images made of it, uint8 (3, H, W) by scale, which are cached."""
        targets = {scale: self.file_of(Source(path, scale)) for scale in scales}
        content = read_bytes(path)
        image = decode_rgb(path, content)
        made = {scale: make_lr(image, scale) if scale > 1 else image for scale in scales}  # (H, W, 3)
        made = {scale: np.ascontiguousarray(pixels.transpose(2, 0, 1)) for scale, pixels in made.items()}  # (3, H, W)
        if self.bounded and not self.bounded.limit:
            return made
        facts = {"source": str(path.resolve()), "source_sha256": hashlib.sha256(content).hexdigest()}
        files = {targets[scale]: _encoded(pixels, facts) for scale, pixels in made.items()}
        if self.bounded:
            self.bounded.write(files)
        else:
            for target, data in files.items():
                write_atomically(target, data)
        return made


def _encoded(pixels: np.ndarray, facts: dict[str, str]) -> bytes:
    """A file of the cache."""
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    buffer.write(json.dumps(facts | {"pixels_sha256": hashlib.sha256(pixels.data).hexdigest()}).encode())
    return buffer.getvalue()

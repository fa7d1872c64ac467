"""Upscaling many image files: what becomes what, one after the other, and what went wrong at the end."""

import glob
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssiu.data.images import IMAGE_SUFFIXES, image_size
from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.files import make_folder
from ssiu.progress import Progress
from ssiu.upscaling.image_files import DecodedImage, check_can_hold, read_image, write_image
from ssiu.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Job:
    """One image and where it goes."""

    source: Path
    target: Path


@dataclass
class Report:
    """What `upscale_files` did: numbers of images, of SR pixels written, and every reason for a missing one."""

    done: int = 0
    sr_pixels: int = 0
    seconds: float = 0.0
    kept: list[Path] = field(default_factory=list)  # outputs that were there before
    failed: list[str] = field(default_factory=list)  # one line each

    def summary(self) -> str:
        """One line."""
        megapixels = self.sr_pixels / 1e6
        rate = megapixels / self.seconds if self.seconds else 0.0
        line = f"{self.done} upscaled: {megapixels:.2f} megapixels in {self.seconds:.1f} s ({rate:.3g} MP/s)"
        line += f", {len(self.kept)} kept as they were (--overwrite replaces them)" if self.kept else ""
        return line + (f", {len(self.failed)} failed" if self.failed else "")


def plan(inputs: Sequence[str], output: Path, suffix: str | None = None) -> list[Job]:
    """The jobs for files, folders and glob patterns, in order.

    Folders are searched recursively and keep their structure under ``output``, patterns from their first wildcard on;
    hidden files and what lies in ``output`` are left out. ``suffix`` such as ".png" replaces the images' own; it may
    also be that of ``output`` itself, the file a single image becomes.

    Raises MissingInputError (66) for an input without images, BadInputError (65) where two would become one file,
    OutputError (73) where an image would replace one of the inputs.
    """
    found = [place for pattern in inputs for place in _images(pattern, output)]
    named = output.suffix and not output.is_dir() and output.suffix.lower() not in IMAGE_SUFFIXES
    if named and len(found) == 1 and Path(inputs[0]).is_file():
        raise OutputError(
            f"--output {output} ends in {output.suffix}; expected {', '.join(IMAGE_SUFFIXES)} for an image, or a "
            "folder: create it first if that is its name"
        )
    if output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        if len(found) > 1:
            raise OutputError(f"--output {output} is a file name, but there are {len(found)} images; name a folder")
        return _checked([Job(found[0][0], output.with_suffix(suffix) if suffix else output)])
    return _checked([Job(path, output / (inside.with_suffix(suffix) if suffix else inside)) for path, inside in found])


def _images(pattern: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """(file, its path within the output folder) of everything an input means."""
    path = Path(pattern)
    if path.is_dir():
        base, candidates = path, path.rglob("*")
    elif not path.exists() and glob.has_magic(pattern):
        base = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
        candidates = base.glob(str(path.relative_to(base)))
    else:
        if not path.exists():
            raise MissingInputError(f"{path}: no such file, folder or pattern")
        yield path, Path(path.name)
        return
    written = output.resolve()
    images = [
        (file, file.relative_to(base))
        for file in sorted(candidates)
        if file.suffix.lower() in IMAGE_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(base).parts)
        and written not in file.resolve().parents
    ]
    if not images:
        raise MissingInputError(f"{pattern}: no images there; looked for {', '.join(IMAGE_SUFFIXES)}")
    yield from images


def _checked(jobs: list[Job]) -> list[Job]:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.target in taken:
            raise BadInputError(
                f"{taken[job.target]} and {job.source} would both become {job.target}; upscale them one after the other"
            )
        taken[job.target] = job.source
        if job.target.resolve() in sources:
            raise OutputError(f"{job.target} is one of the inputs; choose another --output")
    return jobs


def upscale_files(upscaler: Upscaler, jobs: list[Job], output: Path, overwrite: bool = False) -> Report:
    """Upscales every image; broken ones and outputs that cannot be are in the report and do not stop the others.

    Nothing outside ``output`` is written, not through a link either. Raises OutputError (73) when ``output`` cannot be
    created, SaveError (74) when a disk is full, DeviceMemoryError (69), NonFiniteError (70).
    """
    folder = make_folder(output.parent if any(job.target == output for job in jobs) else output).resolve()
    report = Report()
    started = time.perf_counter()
    sizes = {}
    for job in jobs:  # headers only
        if job.target.exists() and not overwrite:
            report.kept.append(job.target)
            continue
        try:
            height, width = image_size(job.source)
            sizes[job] = height * width
        except (BadInputError, MissingInputError) as error:
            report.failed.append(str(error))
    total = sum(sizes.values()) * upscaler.scale**2 / 1e6
    with Progress(total=total, unit="megapixels", desc="upscaled", smoothing=0, bar_format=_BAR) as bar:
        for job, lr_pixels in sizes.items():
            bar.set_postfix_str(job.source.name)
            expected = bar.n + lr_pixels * upscaler.scale**2 / 1e6
            try:
                report.sr_pixels += _upscale_file(upscaler, job, folder, bar)
                report.done += 1
            except (BadInputError, MissingInputError, OutputError) as error:
                report.failed.append(str(error) if str(job.source) in str(error) else f"{job.source}: {error}")
            bar.update(expected - bar.n)
    report.seconds = time.perf_counter() - started
    return report


_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}{postfix}]"


def _upscale_file(upscaler: Upscaler, job: Job, folder: Path, bar: Progress) -> int:
    """Number of SR pixels written; everything that can fail without the network is checked before it runs."""
    image = read_image(job.source)
    height, width, channels = image.pixels.shape
    check_can_hold(job.target.suffix, height * upscaler.scale, width * upscaler.scale, channels, image.pixels.dtype)
    make_folder(job.target.parent)
    parent = job.target.parent.resolve()
    if folder not in (parent, *parent.parents):
        raise OutputError(f"{job.target.parent} leads outside {folder}; remove the link")
    if job.target.is_symlink():
        raise OutputError(f"{job.target} is a symbolic link; refusing to write through it: remove it")
    sr = upscaler(image.pixels, lambda lr_pixels: bar.update(lr_pixels * upscaler.scale**2 / 1e6))
    write_image(job.target, DecodedImage(sr, image.icc_profile))
    return sr.shape[0] * sr.shape[1]

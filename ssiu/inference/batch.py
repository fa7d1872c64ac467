"""Upscaling many image files: what becomes what, one after the other, and what went wrong at the end."""

import contextlib
import glob
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssiu.errors import (
    BadInputError,
    DeviceMemoryError,
    MissingInputError,
    OutputError,
    SaveError,
    SSIUError,
    is_out_of_memory,
    one_line,
)
from ssiu.files import make_folder, refuse_folder, remove_leftovers
from ssiu.images.encoding import IMAGE_SUFFIXES, check_can_hold, fit
from ssiu.images.io import image_size, is_image_name, read_image, unread, write_image
from ssiu.images.metadata import Metadata
from ssiu.inference.at_once import each, files_at_once, images_at_once
from ssiu.inference.upscaler import Upscaler
from ssiu.progress import Progress

logger = logging.getLogger("ssiu")

TWO_PLANES = 2  # the colours and a transparency that varies go through the network together
LARGEST_PIXEL = 8  # bytes: 16 bits each of RGB and alpha


@dataclass(frozen=True)
class Job:
    """One image and where it goes."""

    source: Path
    target: Path


@dataclass
class Report:
    """What `upscale_files` has done so far: numbers of images, of SR pixels written, every reason for a missing one."""

    done: int = 0
    sr_pixels: int = 0
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0  # from then to the last image
    kept: list[Path] = field(default_factory=list)  # outputs that were there before
    failed: list[str] = field(default_factory=list)  # one line each
    left_out: dict[str, list[Path]] = field(default_factory=dict)  # what outputs cannot hold, and of which sources

    @contextlib.contextmanager
    def noting(self, source: Path) -> Iterator[None]:
        """Whatever goes wrong inside becomes a line of ``failed``; only full disks and devices end the batch."""
        try:
            yield
        except (SaveError, DeviceMemoryError):
            raise
        except Exception as error:  # decoders, networks and file systems have more kinds than anybody thought of
            line = str(error) if isinstance(error, SSIUError) else f"{type(error).__name__}: {error}"
            if is_out_of_memory(error):  # Python's own says nothing
                line = "not enough memory; upscale it alone, or cut it into parts"
            self.failed.append(one_line(line if str(source) in line else f"{source}: {line}"))
        finally:
            self.seconds = time.perf_counter() - self.started

    def summary(self, written_to: Path) -> str:
        """One line."""
        megapixels = self.sr_pixels / 1e6
        rate = megapixels / self.seconds if self.seconds else 0.0
        line = f"{self.done} upscaled" + (f" into {written_to}" if self.done else "")
        line += f": {megapixels:.2f} megapixels in {self.seconds:.1f} s ({rate:.3g} MP/s)"
        line += f", {len(self.kept)} kept as they were (--overwrite replaces them)" if self.kept else ""
        return line + (f", {len(self.failed)} failed" if self.failed else "")


def plan(inputs: Sequence[str], output: Path, suffix: str | None = None) -> list[Job]:
    """The jobs for files, folders and glob patterns, in order.

    Folders are searched recursively and keep their structure under ``output``, patterns from their first wildcard on;
    hidden files and what lies in ``output`` are left out, and so are images of other formats, which are counted in the
    log. ``suffix`` such as ".png" replaces the images' own; it may also be that of ``output`` itself, the file a single
    image becomes.

    Raises MissingInputError (66) for an input without images, BadInputError (65) where two would become one file,
    OutputError (73) where an image would replace one of the inputs, or ``output`` is named like a file that is not
    written.
    """
    try:
        found = [image for pattern in inputs for image in _images(pattern, output)]
        known = output.suffix.lower() in IMAGE_SUFFIXES
        one_file = len(found) == 1 and Path(inputs[0]).is_file()
        if output.suffix and not known and not output.is_dir() and (one_file or is_image_name(output)):
            raise OutputError(
                f"--output {output} ends in {output.suffix}; expected {', '.join(IMAGE_SUFFIXES)} for an image, or a "
                "folder: create it first if that is its name"
            )
        if not known or output.is_dir():
            jobs = [Job(path, output / (inside.with_suffix(suffix) if suffix else inside)) for path, inside in found]
        elif len(found) > 1:
            raise OutputError(f"--output {output} is a file name, but there are {len(found)} images; name a folder")
        else:
            jobs = [Job(found[0][0], output.with_suffix(suffix) if suffix else output)]
        return _checked(jobs)
    except (OSError, RuntimeError, ValueError) as error:  # names too long, links in a circle, patterns like **.png
        raise MissingInputError(f"{' '.join(inputs)}: {error}; name an image, a folder or a pattern") from None


def _images(pattern: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """(file, its path within the output folder) of everything an input means."""
    if not pattern:
        raise MissingInputError("an INPUT is empty; name an image, a folder or a pattern")
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
    if written in (base.resolve(), *base.resolve().parents):
        raise OutputError(f"--output {output} is the folder of the images, or holds it; choose another one")
    files = [
        file
        for file in sorted(candidates)
        if is_image_name(file)
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(base).parts)
        and written not in file.resolve().parents
    ]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    others = unread(files)
    if not images:
        known = f"looked for {', '.join(IMAGE_SUFFIXES)}" + (f"; there are {others}" if others else "")
        raise MissingInputError(f"{pattern}: no images there; {known}")
    if others:
        logger.info("%s: skipped %s (not read; convert to PNG first)", pattern, others)
    yield from ((file, file.relative_to(base)) for file in images)


def _checked(jobs: list[Job]) -> list[Job]:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.target in taken:
            raise BadInputError(
                f"{taken[job.target]} and {job.source} would both become {job.target}; "
                "upscale them into different --output folders"
            )
        taken[job.target] = job.source
        if job.target.resolve() in sources:
            raise OutputError(f"{job.target} is one of the inputs; choose another --output")
    return jobs


def upscale_files(
    upscaler: Upscaler,
    jobs: list[Job],
    output: Path,
    overwrite: bool = False,
    report: Report | None = None,
    keep_metadata: bool = True,
) -> Report:
    """Upscales every image; whatever goes wrong with one is in the report and does not stop the others.

    A ``report`` that is given also tells what was done before an error or Ctrl-C ended it. Without
    ``keep_metadata`` the results have no EXIF, XMP, IPTC or text; the colour profile is kept.

    Nothing outside ``output`` is written, not through a link either, and without ``overwrite`` no file is replaced,
    also not one that another run writes at the same time. Raises OutputError (73) when ``output`` cannot be created,
    SaveError (74) when a disk is full, DeviceMemoryError (69).
    """
    folder = make_folder(output.parent if any(job.target == output for job in jobs) else output).resolve()
    for parent in {job.target.parent for job in jobs}:
        with contextlib.suppress(OSError, RuntimeError):  # such a folder is named where it is needed
            if not _leads_outside(parent, folder):
                remove_leftovers(parent)
    report = report or Report()
    sizes = {}
    for job in jobs:  # headers only
        with report.noting(job.source):
            if _is_taken(job.target) and not overwrite:
                report.kept.append(job.target)
            else:
                height, width = image_size(job.source)
                sizes[job] = height * width
    network, sr_bytes = upscaler.network, LARGEST_PIXEL * upscaler.scale**2  # for a pixel of LR
    at_once = images_at_once(network, (TWO_PLANES * pixels for pixels in sizes.values()), upscaler.tile)
    threads = files_at_once(network, at_once, (sr_bytes * pixels for pixels in sizes.values()))
    turn, drawing = threading.Semaphore(at_once), threading.Lock()
    with Progress(
        total=sum(sizes.values()),  # LR pixels, exactly; shown as megapixels of SR
        unit_scale=upscaler.scale**2 / 1e6,
        unit="megapixels",
        desc="upscaled",
        smoothing=0,
        bar_format=_BAR,
    ) as bar:

        def upscale(job: Job) -> tuple[int, list[str]] | Exception:
            left = sizes[job]

            def draw(lr_pixels: int) -> None:
                nonlocal left
                left -= lr_pixels
                with drawing:
                    bar.update(lr_pixels)

            try:
                with drawing:
                    bar.set_postfix_str(job.source.name)
                return _upscale_file(upscaler, job, folder, overwrite, keep_metadata, turn, draw)
            except Exception as error:
                return error
            finally:
                draw(left)

        with contextlib.closing(each(upscale, sizes, threads)) as outcomes:
            for job, outcome in zip(sizes, outcomes, strict=True):
                with report.noting(job.source):
                    if isinstance(outcome, FileExistsError):
                        report.kept.append(job.target)
                    elif isinstance(outcome, Exception):
                        raise outcome
                    else:
                        sr_pixels, left_out = outcome
                        report.sr_pixels += sr_pixels
                        report.done += 1
                        for what in left_out:
                            report.left_out.setdefault(what, []).append(job.source)
    return report


_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}{postfix}]"


def _upscale_file(
    upscaler: Upscaler,
    job: Job,
    folder: Path,
    overwrite: bool,
    keep_metadata: bool,
    turn: threading.Semaphore,
    draw: Callable[[int], None],
) -> tuple[int, list[str]]:
    """Number of SR pixels written, and what was left out; what can fail without the network is tried before it runs.

    Raises FileExistsError when the target was written meanwhile by somebody else and ``overwrite`` is off.
    """
    if _is_taken(job.target) and not overwrite:
        raise FileExistsError
    image = read_image(job.source)
    height, width, channels = image.pixels.shape
    height, width = height * upscaler.scale, width * upscaler.scale
    check_can_hold(job.target.suffix, (height, width, channels), image.pixels.dtype)
    said, damaged = image.metadata.resized(height, width) if keep_metadata else (Metadata(), [])
    image, left_out = fit(replace(image, metadata=said), job.target.suffix)
    make_folder(job.target.parent)
    if _leads_outside(job.target.parent, folder):
        raise OutputError(f"{job.target.parent} leads outside {folder}; remove the link")
    if job.target.is_symlink():
        raise OutputError(f"{job.target} is a symbolic link; refusing to write through it: remove it")
    with turn:
        sr = upscaler(image.pixels, draw)
    write_image(job.target, replace(image, pixels=sr), overwrite)
    return height * width, damaged + left_out


def _is_taken(target: Path) -> bool:
    """Whether a file is called ``target``; OutputError (73) where none can be."""
    refuse_folder(target)
    return target.exists()


def _leads_outside(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies elsewhere than in ``folder``, which is resolved, once its links are followed."""
    resolved = path.resolve()
    return folder not in (resolved, *resolved.parents)

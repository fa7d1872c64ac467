"""Upscaling many image files, and what went wrong at the end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssiu.errors import (
    DeviceMemoryError,
    OutputError,
    SaveError,
    SSIUError,
    is_out_of_memory,
    one_line,
)
from ssiu.files import make_folder, refuse_folder, remove_leftovers
from ssiu.images.encoding import check_can_hold, fit
from ssiu.images.io import image_size, read_image, write_image
from ssiu.images.metadata import Metadata
from ssiu.inference.at_once import each, files_at_once, images_at_once
from ssiu.inference.jobs import Job
from ssiu.inference.upscaler import Upscaler
from ssiu.progress import Progress

TWO_PLANES = 2  # the colours and a transparency that varies go through the network together
LARGEST_PIXEL = 8  # bytes: 16 bits each of RGB and alpha


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

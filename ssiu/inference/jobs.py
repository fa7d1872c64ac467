"""What becomes what: the images that files, folders and patterns mean, and the file that each becomes."""

import glob
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.images.io import is_image_name, unread

logger = logging.getLogger("ssiu")


@dataclass(frozen=True)
class Job:
    """One image and where it goes."""

    source: Path
    target: Path


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

"""Checks data sets: counts, pairs, every pixel decoded, digests, and LR images against our imresize of the HR."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ssiu.data.cache import ImageCache
from ssiu.data.catalog import SETS, FolderFacts, facts_of, known_name, usual_name
from ssiu.data.layouts import SetFolders, available_sets, child, copies, image_files, list_images
from ssiu.data.pairs import CARD, Pair, match_pairs, prepare_command, require_set
from ssiu.errors import BadInputError, MissingInputError, SSIUError, first_names
from ssiu.images.bicubic import make_lr
from ssiu.images.io import read_rgb
from ssiu.images.parallel import in_parallel

DIV2K_VALIDATION = {f"{i:04}" for i in range(801, 901)}


@dataclass
class FolderReport:
    """What was found out about one folder of a set; no ``problems`` means that it can be used."""

    set_name: str
    part: str  # "HR" or "x2"
    images: int = 0
    expected: int | None = None
    digest: str = "-"  # "same" or "differs" from the usual copy
    values: int = 0  # in LR images
    differing: int = 0  # of these, from imresize of the HR image
    first_differing: str = ""  # the first such image, and what seems to have made it
    problems: list[SSIUError] = field(default_factory=list)


def find_sets(root: Path) -> tuple[Path, list[str]]:
    """(data_path, names) of the sets under ``root``, which is a data_path or one set.

    Raises MissingInputError (66) without any, BadInputError (65) when a set of that name elsewhere is read instead.
    """
    root = root.absolute()
    if names := available_sets(root):
        return root, names
    for copy in copies(child(root.parent, root.name)):
        read = require_set(root.parent, copy.name).hr
        if not read.samefile(copy.hr):
            raise BadInputError(f"{copy.hr} is hidden by {read}, which is read instead: remove or rename one")
    there, wanted = available_sets(root.parent), root.name.lower()
    if names := [name for name in there if wanted in (name.lower(), usual_name(name).lower())]:
        return root.parent, names
    raise MissingInputError(
        f"{root}: no data set here; expected SET/HR, benchmark/SET/HR or DF2K/DF2K_train_HR; "
        "python -m ssiu download gets the usual sets"
    )


def check_set(data_path: Path, name: str) -> list[FolderReport]:
    """Checks one set: a report for its HR folder and one for every ``X{s}`` folder."""
    folders = require_set(data_path, name)
    name = known_name(folders.name)
    known = SETS.get(usual_name(name))
    hr_report = FolderReport(name, "HR", expected=known.images if known else None)
    try:
        hr = list_images(folders.hr)
    except SSIUError as error:
        hr_report.problems.append(error)
        return [hr_report]
    hr_report.images = len(hr)
    _check_names(hr_report, folders.hr, set(hr))

    reports, pairs = {}, {}
    for scale, folder in folders.lr_folders().items():
        report = reports[scale] = FolderReport(name, f"x{scale}", expected=hr_report.expected)
        try:
            lr = list_images(folder)
            report.images = len(lr)
            pairs[scale] = {pair.name: pair for pair in match_pairs(hr, lr, scale)}
        except SSIUError as error:
            report.problems.append(error)
    _check_pixels(folders, hr, pairs, hr_report, reports)
    return [hr_report, *reports.values()]


def _check_names(report: FolderReport, folder: Path, stems: set[str]) -> None:
    if report.set_name == "DF2K" and stems != (df2k := SETS["DF2K"].stems()):
        missing, extra = sorted(df2k - stems), sorted(stems - df2k)
        parts = [f"{len(missing)} missing: {first_names(missing)}"] if missing else []
        if extra:
            validation = " (DIV2K's validation images are 0801-0900)" if DIV2K_VALIDATION & set(extra) else ""
            parts.append(f"{len(extra)} that do not belong: {first_names(extra)}{validation}")
        report.problems.append(BadInputError(f"{folder}: expected 0001-0800 and 0901-3550; {'; '.join(parts)}"))
    elif report.expected not in (None, len(stems)):
        report.problems.append(BadInputError(f"{folder}: {len(stems)} images, expected {report.expected}"))


def _check_pixels(
    folders: SetFolders,
    hr: dict[str, Path],
    pairs: dict[int, dict[str, Pair]],
    hr_report: FolderReport,
    reports: dict[int, FolderReport],
) -> None:
    """Decodes everything, compares LR with our imresize of HR, and digests the usual test sets.

    ``pairs[s][name]`` are those that fit; ``reports[s]`` is about the ``X{s}`` folder.
    """
    facts = facts_of(hr_report.set_name)
    compare = not (folders.hr.parent / CARD).exists()  # else HR is a teacher's, and LR was not made from it
    by_part = {report.part: report for report in (hr_report, *reports.values())}
    digests = {part: hashlib.sha256() for part in by_part}
    sizes = []
    lr_paths = [{scale: lr for scale, of_name in pairs.items() if (lr := of_name[name].lr)} for name in hr]
    work = list(zip(hr.values(), lr_paths, strict=True))
    decoded = in_parallel(lambda paths: _read(*paths, compare), work, hr_report.set_name)
    for name, images in zip(hr, decoded, strict=True):
        for part, found in images.items():
            report, suffix = by_part[part], "" if part == "HR" else part
            if isinstance(found, SSIUError):
                report.problems.append(found)
                continue
            if part == "HR":
                sizes.append(found.pixels.shape[:2])
            elif found.differing and not report.differing:
                report.first_differing = f"{name}{found.kernel}"
            report.values += found.pixels.size if compare else 0
            report.differing += found.differing
            if part in facts:
                height, width, _ = found.pixels.shape
                digests[part].update(f"{name}{suffix}.png {height}x{width}".encode("utf-8", "surrogateescape"))
                digests[part].update(found.pixels.data)

    for part, report in by_part.items():
        if report.differing:
            scale = int(part[-1])
            report.problems.append(
                BadInputError(
                    f"{report.set_name} {report.part}: {report.differing:,} of {report.values:,} LR values differ from "
                    f"MATLAB's imresize of the HR images, first in {report.first_differing}; move {folders.lr(scale)} "
                    f"away, then: {prepare_command(folders.hr, [scale])}"
                )
            )
        if part in facts:
            report.digest = "same" if digests[part].hexdigest() == facts[part].sha256 else "differs"
        if report.digest == "differs" and not report.problems:
            reason = _wrong_copy(sizes, facts["HR"]) if part == "HR" else "they were made from other HR images"
            report.problems.append(
                BadInputError(f"{report.set_name} {report.part}: not the pixels or names of the usual copy: {reason}")
            )


class _Decoded(NamedTuple):
    """A decoded image; for LR, how many values are not those of our imresize, and who made them if so."""

    pixels: np.ndarray
    differing: int = 0
    kernel: str = ""


def _read(hr_path: Path, lr_paths: dict[int, Path], compare: bool) -> dict[str, _Decoded | SSIUError]:
    """Decodes an image and its LR versions by scale; what cannot be read is returned as its error."""
    result: dict[str, _Decoded | SSIUError] = {}
    hr: np.ndarray | None = None
    try:
        hr = read_rgb(hr_path)
        result["HR"] = _Decoded(hr)
    except SSIUError as error:
        result["HR"] = error
    for scale, path in lr_paths.items():
        part = f"x{scale}"
        try:
            lr = read_rgb(path)
        except SSIUError as error:
            result[part] = error
            continue
        result[part] = _Decoded(lr)
        if compare and hr is not None and (differing := int(np.count_nonzero(lr != make_lr(hr, scale)))):
            result[part] = _Decoded(lr, differing, _kernel_guess(hr, lr, scale))
    return result


def _wrong_copy(sizes: list[tuple[int, int]], facts: FolderFacts) -> str:
    """The usual reason why the HR images of a test set are not the usual ones."""
    pixels = sum(height * width for height, width in sizes)
    if 0.24 < pixels / facts.pixels < 0.26:
        return "these have half the size (a wrong Urban100 x2 copy that circulates): fetch the set again"
    if all(side % 12 == 0 for size in sizes for side in size):
        return (
            "these are cropped to multiples of 12 (a mod12 copy): rename HR to GTmod12 and LR_bicubic/X2 to LRbicx2 "
            "(and so on), or fetch the uncropped set: python -m ssiu download benchmark"
        )
    return f"{pixels:,} pixels, usually {facts.pixels:,}: fetch the set again to get comparable numbers"


def _kernel_guess(hr: np.ndarray, lr: np.ndarray, scale: int) -> str:
    """Names the function that made ``lr`` when it is one of the usual wrong ones."""
    height, width = lr.shape[:2]
    cropped = np.ascontiguousarray(hr[: height * scale, : width * scale])
    image = Image.fromarray(cropped)
    makers = {
        "Pillow's bicubic": lambda: np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)),
        "Pillow's Lanczos": lambda: np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)),
        "OpenCV's cubic": lambda: cv2.resize(cropped, (width, height), interpolation=cv2.INTER_CUBIC),
        "OpenCV's area": lambda: cv2.resize(cropped, (width, height), interpolation=cv2.INTER_AREA),
        "every s-th pixel": lambda: cropped[::scale, ::scale],
    }
    for name, make in makers.items():
        if np.mean(make() != lr) < 0.001:
            return f" (made with {name}, it seems)"
    return ""


def check_cache(root: Path, cache: ImageCache) -> tuple[int, list[SSIUError]]:
    """Compares what is cached of the images under ``root`` with their content as it is now.

    Finds what name, size, time and inode cannot show: a source edited in place with its time restored, or damage
    of the cache itself. Returns how many cached images were compared, and the problems.
    """
    data_path, names = find_sets(root)
    sets = [require_set(data_path, name) for name in names]
    folders = [folder for each in sets for folder in (each.hr, *each.lr_folders().values())]
    sources = [path for folder in folders for _, file in image_files(folder) if (path := Path(file)).is_file()]
    results = list(in_parallel(cache.verify, sources, "cache"))
    problems = [result for result in results if isinstance(result, SSIUError)]
    return sum(1 for result in results if result), problems

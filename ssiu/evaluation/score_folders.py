"""Scores SR images that lie in a folder, whatever method made them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssiu.data.catalog import MOD12, known_name
from ssiu.data.layouts import list_images
from ssiu.data.test_sets import copy_name
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.evaluation.metrics import PROTOCOLS, check_size, score
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.images.io import image_size, read_rgb
from ssiu.images.parallel import in_parallel

Match = tuple[str, Path, Path]
"""Name, SR image, HR image."""


def score_folders(
    sr_folder: Path, hr_folder: Path, scale: int, protocols: Sequence[str] = PROTOCOLS, suffix: str = ""
) -> Evaluation:
    """Scores every image of ``sr_folder`` with its original in ``hr_folder``.

    Images belong together by stem; that of the SR image may end in ``x{scale}`` or ``_x{scale}``, and then has
    ``suffix``, as in BasicSR's ``baby_IMDN``. HR may have up to
    ``scale - 1`` more rows and columns, which are cropped at the right and bottom. The set is called after the folder,
    or the one above ``HR`` and ``GTmod12``, with its copy as `BenchmarkSet` names it.

    Raises MissingInputError (66) for an empty folder or an image without its partner, BadInputError (65) for sizes
    that do not fit, a damaged image, or one too small to score; sizes are all checked before the first is scored.
    """
    set_name, matches = matched(sr_folder, hr_folder, scale, suffix)

    def result(match: Match) -> ImageResult:
        name, sr, hr = match[0], *read_match(match)
        height, width = sr.shape[:2]
        return ImageResult(set_name, name, width, height, {p: score(sr, hr, scale, p) for p in protocols})

    return Evaluation(list(in_parallel(result, matches, "scored")), tuple(protocols))


def matched(sr_folder: Path, hr_folder: Path, scale: int, suffix: str = "") -> tuple[str, list[Match]]:
    """The name of the set and its images, whose sizes are checked; errors as `score_folders`."""
    matches = _match(list_images(sr_folder), list_images(hr_folder), scale, suffix)
    return _set_name(hr_folder.absolute(), [_checked_size(sr, hr, scale) for _, sr, hr in matches]), matches


def read_match(match: Match) -> tuple[np.ndarray, np.ndarray]:
    """SR and HR, uint8 (H, W, 3) of one size."""
    sr, hr = read_rgb(match[1]), read_rgb(match[2])
    return sr, hr[: sr.shape[0], : sr.shape[1]]


def sr_names(stem: str, scale: int, suffix: str = "") -> tuple[str, str, str]:
    """What an SR image of ``stem`` may be called, without the ending of its file."""
    return f"{stem}{suffix}", f"{stem}x{scale}{suffix}", f"{stem}_x{scale}{suffix}"


def _match(sr: dict[str, Path], hr: dict[str, Path], scale: int, suffix: str) -> list[Match]:
    """Every HR image with the one SR image of its name; MissingInputError (66) when one has no partner."""
    matches, missing = [], []
    for stem, hr_path in sorted(hr.items()):
        names = [name for name in sr_names(stem, scale, suffix) if name in sr]
        if len(names) > 1:
            raise BadInputError(f"{sr[names[0]]} and {sr[names[1]].name} are both named after {hr_path}; remove one")
        matches += [(stem, sr[name], hr_path) for name in names]
        missing += [] if names else [stem]
    used = {sr_path for _, sr_path, _ in matches}
    extra = [path.name for path in sr.values() if path not in used]
    if missing or extra:
        problems = []
        if missing:
            problems.append(f"{len(missing)} HR images have no SR image: {first_names(missing)}")
        if extra:
            problems.append(f"{len(extra)} SR images have no HR image: {first_names(extra)}")
        sr_folder, hr_folder = (next(iter(paths.values())).parent for paths in (sr, hr))
        raise MissingInputError(
            f"{'; '.join(problems)} (looked for {', '.join(sr_names('NAME', scale, suffix))} in "
            f"{sr_folder} for every NAME in {hr_folder}{'' if suffix else '; --suffix says what else ends the names'})"
        )
    return matches


def _set_name(hr_folder: Path, hr_sizes: list[tuple[int, int]]) -> str:
    kind = hr_folder.name.lower()
    name = known_name(hr_folder.parent.name if kind in ("hr", "gtmod12") else hr_folder.name)
    return name + MOD12 if kind == "gtmod12" else copy_name(name, hr_sizes)


def _checked_size(sr_path: Path, hr_path: Path, scale: int) -> tuple[int, int]:
    """(height, width) of the HR image; BadInputError (65) where that of the SR image does not fit."""
    sr_size, hr_size = image_size(sr_path), image_size(hr_path)
    if not all(0 <= large - small < scale for small, large in zip(sr_size, hr_size, strict=True)):
        raise BadInputError(
            f"{sr_path} is {sr_size[1]}x{sr_size[0]} but {hr_path} is {hr_size[1]}x{hr_size[0]}; expected equal sizes, "
            f"or up to {scale - 1} more rows and columns in HR at x{scale}"
        )
    try:
        check_size(*sr_size, scale)
    except BadInputError as error:
        raise BadInputError(f"{sr_path}: {error}") from None
    return hr_size

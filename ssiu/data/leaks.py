"""Finds training images that show a test image, whole, cropped or at another size.

SIFT keypoints of every training image are looked up among those of all test images; where enough of them agree on
one shift, turn and scale, or where thumbnails agree (whole copies, also of images without keypoints), the test
image is laid over the training image and the two are compared pixel by pixel. Only a high correlation counts: other
photographs of the same place do not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssiu.errors import SSIUError
from ssiu.images.io import read_rgb
from ssiu.images.parallel import in_parallel

LONGEST_SIDE = 1200  # larger images are shrunk first: fine detail is not needed to recognise them
KEYPOINTS = 2500  # the strongest ones of each image: enough that a tenth of the image still has many
CLOSE = 0.4  # distance of the descriptors (unit vectors) of one point in two copies of an image; strangers: 0.5-0.9
NEIGHBOURS = 3  # looked at for each keypoint, because test images show each other
FEWEST_VOTES = 8
SAME_THUMBNAIL = 0.95  # correlation of 24x24 versions
SAME_IMAGE = 0.9  # correlation of gray values under the overlay; JPEG copies reach 0.99
SMALLEST_OVERLAP = 24  # pixels: side of the area that must be common


@dataclass(frozen=True)
class Leak:
    """``train`` shows ``test``: correlation of the common area, which is ``covered`` (0-1) of the test image."""

    train: Path
    test: Path
    correlation: float
    covered: float
    scale: float  # size in the training image / size in the test image


@dataclass(frozen=True)
class _Features:
    gray: np.ndarray  # (h, w) uint8, shrunk
    points: np.ndarray  # (n, 2) float32
    descriptors: np.ndarray  # (n, 128) float32, unit length
    thumbnail: np.ndarray  # (576,) float32, zero mean, unit length


def _features(path: Path) -> _Features | SSIUError:
    try:
        gray = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2GRAY)
    except SSIUError as error:
        return error
    shrink = LONGEST_SIDE / max(gray.shape)
    if shrink < 1:
        height, width = (max(round(side * shrink), 1) for side in gray.shape)
        gray = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    thumbnail = cv2.resize(gray, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    thumbnail -= thumbnail.mean()
    thumbnail /= np.linalg.norm(thumbnail) + 1e-6
    keypoints, descriptors = cv2.SIFT.create(KEYPOINTS, contrastThreshold=0.02).detectAndCompute(gray, None)
    if descriptors is None:
        keypoints, descriptors = [], np.zeros((0, 128), np.float32)
    descriptors = descriptors / (np.linalg.norm(descriptors, axis=1, keepdims=True) + 1e-6)
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)
    return _Features(gray, points, descriptors, thumbnail)


def find_leaks(train: Sequence[Path], test: Sequence[Path]) -> tuple[list[Leak], list[SSIUError]]:
    """Compares every training image with every test image; returns the leaks and the unreadable images."""
    read = list(in_parallel(_features, list(test), "reading test images"))
    problems = [found for found in read if isinstance(found, SSIUError)]
    tests = [(path, found) for path, found in zip(test, read, strict=True) if isinstance(found, _Features)]
    if not tests:
        return [], problems
    counts = [len(found.points) for _, found in tests]
    owner = np.repeat(np.arange(len(tests)), counts)  # of each keypoint: the test image
    starts = np.cumsum([0, *counts])
    descriptors = np.concatenate([found.descriptors for _, found in tests])
    index = cv2.flann.Index(descriptors, {"algorithm": 1, "trees": 4}) if len(descriptors) > NEIGHBOURS else None
    thumbnails = np.stack([found.thumbnail for _, found in tests])

    def placements(found: _Features) -> Iterator[tuple[int, np.ndarray]]:
        """Test images that may be shown, with the (2, 3) transform from their points to this image's."""
        for number in np.flatnonzero(thumbnails @ found.thumbnail > SAME_THUMBNAIL):
            height, width = np.array(found.gray.shape) / tests[number][1].gray.shape
            yield int(number), np.array([[width, 0, (width - 1) / 2], [0, height, (height - 1) / 2]])
        if index is None or len(found.points) < FEWEST_VOTES:
            return
        nearest, squared = index.knnSearch(found.descriptors, NEIGHBOURS, params={"checks": 64})  # (n, NEIGHBOURS) each
        point, rank = np.nonzero(squared < CLOSE**2)
        match = nearest[point, rank]
        for number in np.flatnonzero(np.bincount(owner[match], minlength=len(tests)) >= FEWEST_VOTES):
            mine = owner[match] == number
            transform, agree = cv2.estimateAffinePartial2D(
                tests[number][1].points[match[mine] - starts[number]],
                found.points[point[mine]],
                ransacReprojThreshold=3,
            )
            if transform is not None and agree.sum() >= FEWEST_VOTES // 2:
                yield int(number), transform

    def search(path: Path) -> list[Leak] | SSIUError:
        found = _features(path)
        if isinstance(found, SSIUError):
            return found
        shown: dict[int, Leak] = {}
        for number, transform in placements(found):
            if number not in shown and (leak := _overlay(path, found, *tests[number], transform)):
                shown[number] = leak
        return list(shown.values())

    leaks = []
    for result in in_parallel(search, list(train), "searching training images"):
        if isinstance(result, SSIUError):
            problems.append(result)
        else:
            leaks += result
    return leaks, problems


def _overlay(
    train_path: Path, train: _Features, test_path: Path, test: _Features, transform: np.ndarray
) -> Leak | None:
    """Lays the test image over the training image and compares what both show."""
    height, width = train.gray.shape
    shown = cv2.warpAffine(test.gray, transform, (width, height), flags=cv2.INTER_AREA)
    inside = cv2.warpAffine(np.full_like(test.gray, 255), transform, (width, height)) == 255
    if inside.sum() < SMALLEST_OVERLAP**2:
        return None
    a, b = (cv2.GaussianBlur(image, (0, 0), 1.5)[inside].astype(np.float64) for image in (shown, train.gray))
    if min(a.std(), b.std()) < 1:  # a plain area resembles any other
        return None
    correlation = float(np.corrcoef(a, b)[0, 1])
    if correlation < SAME_IMAGE:
        return None
    area = abs(float(np.linalg.det(transform[:, :2])))
    return Leak(train_path, test_path, correlation, min(inside.sum() / area / test.gray.size, 1.0), area**0.5)

"""`imresize` against MATLAB's own output and against the formula written out literally."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssiu.images.bicubic import imresize, make_lr
from ssiu.images.io import read_rgb


def kernel(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def literal_row(row: np.ndarray, length: int, scale: float) -> list[float]:
    """Output j (from 1) is centred on j / scale + (1 - 1/scale) / 2; mirrored border; weights sum to 1."""
    n, shrink = len(row), min(scale, 1.0)
    result = []
    for j in range(1, length + 1):
        centre = j / scale + 0.5 * (1 - 1 / scale)
        taps = range(math.floor(centre - 2 / shrink), math.floor(centre - 2 / shrink) + math.ceil(4 / shrink) + 2)
        weights = [kernel(shrink * (centre - tap)) for tap in taps]
        mirrored = [(list(range(n)) + list(range(n - 1, -1, -1)))[(tap - 1) % (2 * n)] for tap in taps]
        result.append(sum(w * row[i] for w, i in zip(weights, mirrored, strict=True)) / sum(weights))
    return result


def literal(image: np.ndarray, size: tuple[int, int], scales: tuple[float, float]) -> np.ndarray:
    rows = np.array([literal_row(column, size[0], scales[0]) for column in image.T]).T
    return np.array([literal_row(row, size[1], scales[1]) for row in rows])


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 0.37, 0.9, 1.0, 1.7, 2, 3, math.pi])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (13, 10), (23, 31)])
def test_float_output_equals_the_formula(scale: float, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random(shape)
    size = tuple(math.ceil(scale * side) for side in shape)
    result = imresize(image, scale)
    assert result.shape == size and result.dtype == np.float64
    np.testing.assert_allclose(result, literal(image, size, (scale, scale)), rtol=0, atol=1e-12)


def test_each_side_has_its_own_factor_when_a_size_is_given() -> None:
    image = np.random.default_rng(2).random((19, 22))
    expected = literal(image, (31, 7), (31 / 19, 7 / 22))
    np.testing.assert_allclose(imresize(image, size=(31, 7)), expected, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), new=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_uint8_is_the_formula_rounded_after_each_pass(height: int, width: int, new: tuple, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    scales = (new[0] / height, new[1] / width)

    def rounded(x: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(x + 0.5 + 1e-9), 0, 255)

    def rows(x: np.ndarray) -> np.ndarray:
        return rounded(np.array([literal_row(column, new[0], scales[0]) for column in x.T]).T)

    def columns(x: np.ndarray) -> np.ndarray:
        return rounded(np.array([literal_row(row, new[1], scales[1]) for row in x]))

    floats = image.astype(float)
    expected = columns(rows(floats)) if scales[0] <= scales[1] else rows(columns(floats))
    result = imresize(image, size=new)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_ties_round_up_and_overshoot_saturates() -> None:
    step = np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1)
    assert imresize(np.array([[0, 1], [0, 1]], np.uint8), size=(1, 1)) == 1  # mean 0.5 after two passes
    enlarged = imresize(step, 4)
    assert enlarged.min() == 0 and enlarged.max() == 255


def test_channels_are_independent_and_float32_stays_float32() -> None:
    image = np.random.default_rng(3).random((17, 14, 3)).astype(np.float32)
    result = imresize(image, 1 / 3)
    assert result.dtype == np.float32 and result.shape == (6, 5, 3)
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], imresize(image[..., channel], 1 / 3))


def test_a_view_is_read_correctly() -> None:
    image = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image[3:33, 2:26], 0.5), imresize(image[3:33, 2:26].copy(), 0.5))


@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": 2, "size": (2, 2)},
        {},
        {"image": np.zeros((0, 3)), "scale": 2},
        {"image": np.zeros((4, 4), np.int32), "scale": 2},
        {"image": np.zeros(4), "scale": 2},
        {"size": (0, 2)},
    ],
)
def test_what_cannot_be_resized_is_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="imresize"):
        imresize(**{"image": np.zeros((4, 4)), **arguments})


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_every_lr_image_of_the_benchmarks_is_reproduced(shared, name: str) -> None:
    images = sorted((shared / "data/benchmark" / name / "HR").iterdir())
    assert len(images) == {"Set5": 5, "Set14": 14, "B100": 100}[name]
    for path in images:
        hr = read_rgb(path)
        for scale in (2, 3, 4):
            lr = read_rgb(path.parents[1] / f"LR_bicubic/X{scale}/{path.stem}x{scale}.png")
            made = make_lr(hr, scale)
            assert made.shape == lr.shape and np.count_nonzero(made != lr) == 0, (path.name, scale)

"""Small data sets made on the spot."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_sets import write_set

from ssiu.data.pairs import Pairs, find_pairs


@pytest.fixture
def make_pairs(tmp_path: Path) -> Callable[..., Pairs]:
    """``make_pairs(count, scale, size)``: the pairs of a new set in tmp_path/data/toy."""

    def make(count: int = 4, scale: int = 2, size: tuple[int, int] = (40, 60)) -> Pairs:
        write_set(tmp_path / "data/toy", [f"p{i:02}" for i in range(count)], scale, size)
        return find_pairs(tmp_path / "data", "toy", scale)

    return make

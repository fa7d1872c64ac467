"""What the tests of training share."""

from pathlib import Path

import pytest
from tiny_run import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sets of `tiny_config`, for all runs of a file."""
    root = tmp_path_factory.mktemp("training")
    make_data(root / "data")
    return root

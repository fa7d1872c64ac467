"""Training on sets that are decoded as it goes: exact after any kill, and stopped with its state by a damaged image."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from lab import Lab
from tiny import same
from tiny_run import make_set, outcome, tiny_config

from ssiu.data.training_data import build_stream
from ssiu.errors import BadInputError
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint

MIXED = {
    "training_dataset": {"train": 2, "alone": 1}, "max_iterations": None, "epochs": 4, "save_every": 2, "log_every": 4,
    "cache_gb": 1, "threads": 2, "batch_size": 4, "data_repeat": 3, "ema_decay": 0.9,
}  # fmt: skip
A_PAIR = 3 * (40 * 48 + 20 * 24) + 800  # bytes in the cache


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two sets, one of HR alone, and a run on both that nobody disturbed."""
    lab = Lab(tmp_path_factory.mktemp("lab"), **MIXED)
    make_set(lab.folder / "data/alone", 3, seed=9)
    shutil.rmtree(lab.folder / "data/alone/LR_bicubic")
    assert lab.train("whole", threads=0).wait() == 0
    yield lab
    lab.close()


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.full)])
def test_kills_at_random_moments_and_other_bounds_of_the_cache_change_nothing(lab: Lab, kills: int) -> None:
    random, seen, name = Random(kills), 0, f"killed{kills}"
    bounds = ["null", "1", str(2 * A_PAIR / 1e9), "0"]
    while True:
        process = lab.train(name, cache_gb=random.choice(bounds), threads=random.choice([0, 1, 3]))
        if seen == kills or process.ended(random.uniform(0.3, 2.5)):
            assert process.wait() == 0, process.output
            break
        process.send(9)
        process.wait()
        seen += 1
    assert seen > kills / 2
    assert same(outcome(lab.run_folder(name)), outcome(lab.run_folder("whole")))


def damaged(path: Path) -> bytes:
    """Damages an image in as many bytes; returns what it was."""
    content = path.read_bytes()
    path.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    return content


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_image_ends_the_run_with_its_name_and_its_state_saved(lab: Lab, threads: int) -> None:
    config = tiny_config(lab.folder, log_name=f"damaged{threads}", **{**MIXED, "threads": threads, "cache_gb": 0})
    stream = build_stream(config)
    first = [stream.names(m) for m in range(3)]
    late = next(name for m in range(3, 99) for name in stream.names(m) if not any(name in names for names in first))
    image = lab.folder / "data" / late.replace("/", "/HR/", 1)
    path = image.with_suffix(".png")
    content = damaged(path)
    saved = r"step \d+ of \d+ is saved in .*last\.pt; --resume auto continues"
    with pytest.raises(BadInputError, match=rf"{path.name}: damaged PNG .*{saved}"):
        Trainer(config).run()
    path.write_bytes(content)
    assert load_checkpoint(config.run_folder / "models/last.pt")["step"] >= 3
    Trainer(config, "auto", allow_changes=True).run()  # the digest knew the damaged file
    assert same(outcome(config.run_folder), outcome(lab.run_folder("whole")))


def test_all_ranks_save_when_one_meets_a_damaged_image(lab: Lab) -> None:
    undisturbed = lab.train_ranks(2, "two")
    assert [rank.wait() for rank in undisturbed] == [0, 0], [rank.output for rank in undisturbed]
    path = lab.folder / "data/train/HR/p2.png"
    content = damaged(path)
    ranks = lab.train_ranks(2, "two_damaged", cache_gb=0)
    codes = sorted(rank.wait() for rank in ranks)
    path.write_bytes(content)
    output = "".join(rank.output for rank in ranks)
    assert codes in ([65, 65], [65, 75]), output
    assert "p2.png: damaged PNG" in output
    again = lab.start_ranks(2, "forked:command", "train", [*lab.arguments("two_damaged"), "--allow-changes"])
    assert [rank.wait() for rank in again] == [0, 0], [rank.output for rank in again]
    assert same(outcome(lab.run_folder("two_damaged")), outcome(lab.run_folder("two")))

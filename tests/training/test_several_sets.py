"""Several training sets at once: the samples of each, a resume that is exact, and changes that are refused."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import same
from tiny_run import make_set, outcome, tiny_config, trainer

from ssiu.config.load import load_config, make_config
from ssiu.data.training_data import build_stream
from ssiu.errors import ConfigError, MissingInputError, StoppedError
from ssiu.training.trainer import Trainer

MIXED = {"train": 1, "val": 3}  # five and two images


def shown(stream, samples: range) -> Counter:
    return Counter(stream.image(g)[0].name for g in samples)


@pytest.mark.parametrize(
    ("text", "value", "sets"),
    [
        ("df2k", "df2k", {"df2k": None}),
        ("[df2k]", "df2k", {"df2k": None}),
        ("{df2k: 0.5}", "df2k", {"df2k": None}),
        ("[lsdir, df2k]", ["df2k", "lsdir"], {"df2k": None, "lsdir": None}),
        ("{lsdir: 1, df2k: 2.5}", {"df2k": 2.5, "lsdir": 1}, {"df2k": 2.5, "lsdir": 1}),
        ("[291, 1e5]", ["1e5", "291"], {"1e5": None, "291": None}),
        ("{291: 1, 007: 2}", {"007": 2, "291": 1}, {"007": 2, "291": 1}),
    ],
)
def test_sets_are_given_as_a_name_a_list_or_shares_and_their_order_does_not_matter(tmp_path, text, value, sets):
    (tmp_path / "run.yml").write_text(f"training_dataset: {text}\n")
    for config in (load_config(tmp_path / "run.yml"), load_config("SSUFSR_light_x4", [f"training_dataset={text}"])):
        assert config.training_dataset == value
        assert list(config.training_sets.items()) == list(sets.items())
        (tmp_path / "again.yml").write_text(config.to_yaml())
        assert load_config(tmp_path / "again.yml") == config


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "one set or more"), ({}, "one set or more"), (["a", "A"], "each named once"),
        (["a/b"], "a plain folder name"), (3, "a valid string or a valid list or a valid dictionary"),
        ({"a": 0, "b": 1}, "expected greater than 0, got 0$"), ({"a": "x"}, "expected a valid number, got 'x'$"),
        ([["a"]], "a valid string"), (None, "a valid string"),
    ],
)  # fmt: skip
def test_what_names_no_sets_is_refused(value, expected):
    with pytest.raises(ConfigError, match=f"config: key 'training_dataset': .*{expected}"):
        make_config({"training_dataset": value})


def test_a_list_shows_each_image_equally_often_and_shares_divide_the_samples(folder):
    stream = build_stream(tiny_config(folder, training_dataset=["train", "val"]))
    assert stream.samples_per_epoch == 7 * 2
    assert shown(stream, range(14)) == {"train": 10, "val": 4} == shown(stream, range(14, 28))
    stream = build_stream(tiny_config(folder, training_dataset=MIXED))
    assert stream.samples_per_epoch == 7 * 2
    assert shown(stream, range(56)) == {"train": 16, "val": 40}  # a quarter of 14, rounded: 4
    assert len(set(stream.names(0))) == 2 and all(name.startswith(("train/", "val/")) for name in stream.names(0))


def test_a_list_of_one_set_gives_the_samples_of_its_name(folder):
    one, listed = (build_stream(tiny_config(folder, training_dataset=value)) for value in ("train", ["train"]))
    assert one.manifest == listed.manifest == one.sets[0].digest
    for a, b in zip(one.batch(3), listed.batch(3), strict=True):
        assert torch.equal(a, b)


def test_workers_and_ranks_change_nothing(folder):
    stream = build_stream(tiny_config(folder, training_dataset=MIXED))
    whole = [stream.batch(m) for m in range(30)]
    ranks = [stream.loader(0, 30, rank, 2, threads) for rank, threads in ((0, 1), (1, 3))]
    for (lr, hr), *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(lr, torch.cat([part[0] for part in parts]))
        assert torch.equal(hr, torch.cat([part[1] for part in parts]))


@pytest.mark.parametrize("sets", [["train", "val"], MIXED], ids=["list", "shares"])
def test_a_run_on_several_sets_resumes_bit_for_bit(folder, sets, monkeypatch):
    changes = {"training_dataset": sets, "max_iterations": 9, "batch_size": 3}
    name = type(sets).__name__
    Trainer(tiny_config(folder, log_name=f"whole-{name}", **changes)).run()
    config = tiny_config(folder, log_name=f"part-{name}", **changes)
    original = Trainer.train_step

    def stop_after_one(run, batches):
        original(run, batches)
        run.stop.signum = 15

    monkeypatch.setattr(Trainer, "train_step", stop_after_one)
    for _ in range(8):
        with pytest.raises(StoppedError):
            Trainer(config, "auto").run()
    monkeypatch.setattr(Trainer, "train_step", original)
    Trainer(config, "auto").run()
    assert same(outcome(config.run_folder), outcome(folder / f"logs/whole-{name}"))


@pytest.mark.parametrize("other", ["train", ["toy", "train"], {"train": 2, "val": 1}, {"train": 1, "val": 2}], ids=str)
def test_other_sets_or_shares_on_resume_are_refused_unless_allowed(folder, other):
    name = f"first-{other}".replace("/", "")
    run = trainer(folder, log_name=name, training_dataset=["train", "val"], max_iterations=2)
    run.run()
    config = tiny_config(folder, log_name=name, training_dataset=other, max_iterations=3)
    with pytest.raises(ConfigError, match=r"other settings: training_dataset: \['train', 'val'\] -> .*--allow-changes"):
        Trainer(config, "auto")
    assert Trainer(config, "auto", allow_changes=True).run().startswith("finished: 1 iterations, 3 in all")


def test_what_is_wrong_with_one_of_the_sets_is_said(folder, caplog):
    with pytest.raises(MissingInputError, match="data set 'absent' is not in"):
        trainer(folder, training_dataset=["absent", "train"])
    with pytest.raises(ConfigError, match=r"'training_dataset': the share of val is less than one of the 14 samples"):
        trainer(folder, training_dataset={"train": 1, "val": 1e-9})
    trainer(folder, training_dataset={"train": 3, "val": 1}, max_iterations=1).run()
    said = "data: train (5 images, 71% of the samples), val (2 images, 29% of the samples); 14 samples an epoch"
    assert said in [record.message for record in caplog.records]  # 10 and 4


def test_images_of_a_test_set_are_looked_for_in_every_training_set(folder, caplog):
    make_set(folder / "data/other", 3, seed=2)  # the first two are toy's
    trainer(folder, training_dataset=["other", "train"], eval_sets=["toy"], test_every=1, max_iterations=1).run()
    found = [record.message for record in caplog.records if "shares" in record.message]
    assert found == ["toy shares 2 images with the training set other (p0, p1): its scores will be optimistic"]


def test_one_set_of_a_golden_run_is_trained_on_as_before(folder: Path, reference: Path):
    """The digest of the data in a checkpoint that commit f7a8675 wrote."""
    state = torch.load(reference / "checkpoint_f7a8675.pt", weights_only=True)
    assert build_stream(tiny_config(folder)).manifest == state["data"]

"""The quickstart the second time, with other settings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ssiu.cli import quickstart
from ssiu.data.pairs import find_pairs
from ssiu.errors import ConfigError
from ssiu.weights import shipped


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """One photograph to train on and one to score, a tiny network, and no shipped weights."""
    monkeypatch.setattr(quickstart, "TRAIN", ("coffee",))
    monkeypatch.setattr(quickstart, "TEST", ("chelsea",))
    monkeypatch.setattr(shipped, "SHIPPED", ())
    monkeypatch.chdir(tmp_path)
    small = ("n_feats=8", "num_heads=2", "patch_size=48", "batch_size=1", "device=cpu", "threads=0")
    return lambda *arguments: quickstart.main([*small, *arguments])


def test_a_second_run_with_other_settings(run: Callable[..., None], capsys: pytest.CaptureFixture) -> None:
    run("max_iterations=1")
    hr = Path("quickstart/data/train/HR/coffee.png")
    made = hr.stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"max_iterations: 1 -> 2; --allow-changes resumes anyway"):
        run("max_iterations=2")
    capsys.readouterr()
    run("max_iterations=2", "--allow-changes")
    printed = capsys.readouterr().out
    assert "resumed at step 1" in printed and "x2, standard protocol" in printed
    run("max_iterations=1", "scale=3", "log_name=x3")
    assert [pair.name for pair in find_pairs("quickstart/data", "test", 3)] == ["chelsea"]
    assert "x3, standard protocol" in capsys.readouterr().out and hr.stat().st_mtime_ns == made


def test_what_could_not_be_scored_is_refused_before_the_training(run: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match="key 'eval_sets': empty"):
        run("eval_sets=[]")
    with pytest.raises(ConfigError, match="key 'eval_sets': no set is called absent"):
        run("eval_sets=[test,absent]", "max_iterations=1")
    assert not Path("quickstart/run").exists()

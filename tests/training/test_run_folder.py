"""A run's folder whose names are taken by other things, and whose code the log says it is."""

import errno
import io
import json
import logging
import math
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssiu.errors import OutputError, SSIUError
from ssiu.training.run_folder import RunFolder
from ssiu.training.run_log import git_commit


@pytest.mark.parametrize(
    "name", ["config.yml", "log.txt", "metrics.jsonl", "models/last.pt", "models/best.pt", "tensorboard", "results"]
)
@pytest.mark.parametrize("kind", ["folder", "file", "pipe", "link", "dangling link"])
def test_what_is_of_another_kind_is_named_before_any_work_and_kept(tmp_path: Path, name: str, kind: str) -> None:
    home, place = tmp_path / "run", tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    target = tmp_path / "target"
    if kind == "link":
        target.touch()
    make = {"folder": place.mkdir, "file": place.touch, "pipe": lambda: os.mkfifo(place)}
    make.get(kind, lambda: place.symlink_to(target))()
    is_folder = name in ("tensorboard", "results")
    if kind == ("folder" if is_folder else "file") or (is_folder and kind == "dangling link"):
        return
    with pytest.raises(OutputError, match=f"{name} is (not a file|not a folder|a symbolic link); move it away"):
        RunFolder(home)
    assert os.path.lexists(place)
    place.rmdir() if kind == "folder" else place.unlink()
    folder = RunFolder(home)  # the lock is free again
    folder.open("", 0, 0)
    folder.close()


@pytest.mark.parametrize("torn", [b"\xff\xfe\x00", b"[" * 100_000, b"[]", b'{"kind": "train", "step": "x"}'])
def test_metrics_that_are_none_are_cut_off(tmp_path: Path, torn: bytes) -> None:
    line = json.dumps({"kind": "train", "step": 2})
    (tmp_path / "metrics.jsonl").write_bytes(line.encode() + b"\n" + torn + b"\n")
    folder = RunFolder(tmp_path)
    folder.open("", 4, 4)
    folder.close()
    assert (tmp_path / "metrics.jsonl").read_text() == line + "\n"


def test_validation_replaces_its_own_images_and_nothing_else_in_results(tmp_path: Path) -> None:
    folder, image = RunFolder(tmp_path / "run"), np.zeros((4, 5, 3), np.uint8)
    folder.write_images(1, {"val_a": image, "val_b": image})
    results = tmp_path / "run/results"
    (results / "mine").mkdir()
    for name in ("notes.txt", "val_a.png", "mine/summary.json"):
        (results / name).write_text("mine")
    folder.write_images(2, {"val_c": image})
    folder.close()
    assert [path.name for path in (results / "validation").iterdir()] == ["val_c.png"]
    assert {path.read_text() for path in results.rglob("*") if path.is_file() and "validation" not in path.parts} == {
        "mine"
    }


def test_the_log_takes_names_that_are_no_utf8_and_metrics_stay_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ssiu"), "propagate", False)  # pytest-xdist cannot send such a line
    folder = RunFolder(tmp_path)
    folder.open("", 0, 0)
    logging.getLogger("ssiu").warning("gray image %s", os.fsdecode(b"caf\xe9.png"))
    folder.write("validation", 1, {"psnr/val": math.inf, "ssim/val": 1.0, "loss": math.nan})
    folder.close()
    assert "gray image caf\\udce9.png" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    line = {"kind": "validation", "step": 1, "psnr/val": None, "ssim/val": 1.0, "loss": None}
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail) == line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboards_numbers_may_be_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open("", 0, 0)
    shutil.rmtree(folder.path / "tensorboard")
    for step in range(1, 101):
        folder.write("train", step, {"loss": 0.5, "l1": 0.4})
    folder.close()
    assert [json.loads(line)["step"] for line in folder.metrics_path.read_text().splitlines()] == list(range(1, 101))


@pytest.mark.parametrize(("number", "code", "advice"), [(errno.ENOSPC, 74, "free some space"), (errno.ESTALE, 73, "")])
def test_only_a_full_disk_is_told_to_be_freed(tmp_path: Path, number: int, code: int, advice: str) -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    folder = RunFolder(tmp_path / "run")
    folder.open("", 0, 0)
    folder._metrics = Broken()
    with pytest.raises(SSIUError, match=f"{folder.metrics_path}: {os.strerror(number)}; {advice}") as caught:
        folder.write("train", 1, {"loss": 0.5})
    assert caught.value.exit_code == code and ("free" in str(caught.value)) == bool(advice)
    folder.close()


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_logged_commit_is_that_of_our_clone_and_of_no_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    ours = theirs / "venv/ssiu"
    for folder in (theirs, ours):
        folder.mkdir(parents=True)
        git(folder, "init", "-q")
        (folder / "file").write_text(str(folder))
        git(folder, "add", "file")
        git(folder, "commit", "-qm", "x")
    git(ours, "worktree", "add", "-q", str(tmp_path / "worktree"))
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))  # as in a hook
    (ours / "file").write_text("changed")
    monkeypatch.delenv("GIT_DIR")
    commit = git(ours, "describe", "--always")
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    assert git_commit(ours) == f"{commit}-dirty"
    assert git_commit(tmp_path / "worktree") == commit
    shutil.rmtree(ours / ".git")
    assert git_commit(ours) == "without git"

"""A training command that cannot go on ends soon, with one line and its exit code, and spoils nothing."""

import hashlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from forked import Forked
from lab import Lab
from tiny_run import tiny_config

from ssiu.errors import SaveError
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow  # dozens of processes


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"), max_iterations=100_000, save_every=5)  # long enough to be disturbed
    yield lab
    lab.close()


def fails(process: Forked, code: int, *words: str, within: float = 30) -> None:
    """``process`` ends with ``code`` and one error line that holds ``words``."""
    assert process.wait(within) == code, process.output
    (line,) = [line for line in process.output.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line
    assert "Traceback" not in process.output


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# the folder


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.full)])
def test_a_second_run_in_one_folder_is_refused_and_changes_nothing(lab: Lab, rounds: int) -> None:
    slowest = 0.0
    for number in range(rounds):
        name = f"twice{rounds}_{number}"
        first = lab.train(name, threads=2)
        lab.wait_for_checkpoint(first, name)
        first.send(signal.SIGSTOP)  # so that whatever changes, the second one changed
        before = contents(lab.folder / "logs" / name)
        start = time.perf_counter()
        fails(lab.train(name), 75, f"in use by pid {first.pid} on ", within=15)  # idle: 2 s
        slowest = max(slowest, time.perf_counter() - start)
        assert contents(lab.folder / "logs" / name) == before
        first.send(signal.SIGKILL)
        first.wait()
        third = lab.train(name, max_iterations=load_checkpoint(lab.last(name))["step"])
        assert third.wait() == 78, "--allow-changes was needed, so the lock was free"
    print(f"{rounds} second runs refused, the slowest after {slowest:.2f} s; all locks free after kill -9")


def test_a_killed_main_process_frees_the_folder_though_its_workers_linger(lab: Lab) -> None:
    first = lab.train("linger", threads=2)
    lab.wait_for_checkpoint(first, "linger")
    os.kill(first.pid, signal.SIGKILL)  # as the kernel does when memory runs out: not the group
    first.wait()
    second = lab.train("linger")
    while "steps: " not in second.output:
        assert not second.ended(0.01), second.output
    second.send(signal.SIGTERM)
    assert second.wait(10) == 143


@pytest.mark.parametrize("kind", ["a file", "below a file", "read-only", "a file where models go"])
def test_an_output_folder_that_cannot_be_used_is_named_before_the_data(lab: Lab, kind: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="ssiu"))  # tmp_path is closed to other users
    try:
        place.chmod(0o755)
        occupied = place / "occupied"
        occupied.write_text("mine")
        if kind == "read-only":
            place.chmod(0o555)
        elif kind == "a file where models go":
            (place / "N").mkdir()
            (place / "N/models").write_text("mine")
        config = place / "run.yml"
        target = {"a file": occupied, "below a file": occupied / "deeper"}.get(kind, place)
        arguments = ["--config", str(config), f"log_path={target}", "log_name=N", "data_path=/nowhere"]
        config.write_text(lab.config.read_text())
        start = time.perf_counter()
        fails(lab.server.start("forked:unprivileged", arguments), 73, str(target))
        print(f"{kind}: {time.perf_counter() - start:.2f} s")
        assert occupied.read_text() == "mine"
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)


def test_a_checkpoint_is_not_written_through_a_link(lab: Lab, tmp_path: Path) -> None:
    sentinel = tmp_path / "precious"
    sentinel.write_text("mine")
    lab.last("linked").parent.mkdir(parents=True)
    (lab.folder / "logs/linked/config.yml").symlink_to(sentinel)
    fails(lab.train("linked"), 73, "config.yml is a symbolic link")
    (lab.folder / "logs/linked/config.yml").unlink()
    assert lab.train("linked", max_iterations=2).wait() == 0
    for name in ("last.pt", "best.pt"):  # intact, so that it would be read and only the write refused
        place = lab.last("linked").with_name(name)
        shutil.copy(lab.last("linked"), tmp_path / name)
        place.unlink(missing_ok=True)
        place.symlink_to(tmp_path / name)
        fails(lab.train("linked"), 73, f"{name} is a symbolic link")
        place.unlink()
        shutil.move(tmp_path / name, place)
    assert sentinel.read_text() == "mine"


# the disk


def test_too_little_space_is_said_before_the_first_step(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trainer(tiny_config(lab.folder, log_name="space"))
    checkpoint = 3 * 4 * sum(p.numel() for p in run.model.parameters())  # weights and two moments in float32
    real = shutil.disk_usage(lab.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=3 * checkpoint - 1))
    with pytest.raises(SaveError, match=r"3 checkpoints needs [\d.]+ kB in .*logs/space and [\d.]+ kB are") as caught:
        run.run()
    assert caught.value.exit_code == 74 and run.step == 0 and not (run.config.run_folder / "config.yml").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=3 * checkpoint))
    assert Trainer(tiny_config(lab.folder, log_name="space")).run().startswith("finished")


@pytest.mark.parametrize("size", [0, 1000, 5000, 60_000])
def test_a_disk_that_fills_up_ends_the_run_and_keeps_the_checkpoint(lab: Lab, size: int) -> None:
    """Whichever file meets the limit first: the owner's name, the metrics, the log, or a checkpoint."""
    name = f"full{size}"
    assert lab.train(name, max_iterations=5, threads=0).wait() == 0
    before = lab.last(name).read_bytes()
    arguments = ["--allow-changes", *lab.arguments(name, log_every=1, save_every=1)]
    process = lab.server.start("forked:small_disk", size, arguments)
    fails(process, 74, str(lab.folder / "logs" / name))
    assert lab.last(name).read_bytes() == before
    assert not list(lab.last(name).parent.glob(".*"))


# memory and workers


def test_running_out_of_real_memory_names_the_keys_to_lower(lab: Lab) -> None:
    arguments = lab.arguments("memory", batch_size=10_000, data_repeat=10_000)
    process = lab.server.start("forked:out_of_address_space", 2**30, arguments)
    fails(process, 69, "batch_size 10000", "lower batch_size")


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.full)])
def test_a_killed_loader_worker_ends_the_run_and_leaves_no_orphan(lab: Lab, count: int) -> None:
    slowest = 0.0
    for number in range(count):
        name = f"worker{count}_{number}"
        process = lab.train(name, threads=2)
        lab.wait_for_checkpoint(process, name)
        workers = process.children
        assert len(workers) == 2
        start = time.perf_counter()
        os.kill(workers[number % 2], signal.SIGKILL)
        fails(process, 75, f"loader worker {workers[number % 2]} died (SIGKILL)", "'threads'", "/dev/shm", within=10)
        slowest = max(slowest, time.perf_counter() - start)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert load_checkpoint(lab.last(name))["step"] >= 5
    print(f"{count} workers killed, the run gone after {slowest:.2f} s at most, no orphan")

"""Runs that are killed or told to stop at random moments, and go on: nothing but time is lost."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from forked import Forked
from lab import Lab
from tiny import same
from tiny_run import outcome

from ssiu.training.signals import StopSignal
from ssiu.weights.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow  # dozens of processes

RUN = {
    "max_iterations": None, "epochs": 3, "save_every": 4, "log_every": 4, "validation_set": "val", "test_every": 1,
    "ema_decay": 0.9, "threads": 1, "keep_last": 1,
}  # fmt: skip
WRITING, VALIDATING = "ssiu.files", "ssiu.evaluation.evaluate"


class Repeated(Lab):
    """The same run again and again, after one that nobody disturbed."""

    def __init__(self, folder: Path):
        super().__init__(folder, **RUN)
        start = time.perf_counter()
        assert self.train("whole").wait() == 0
        self.duration = time.perf_counter() - start
        self.whole = self.end("whole")

    def end(self, name: str) -> list:
        best = load_checkpoint(self.run_folder(name) / "models/best.pt")
        best["config"].pop("log_name")
        return [*outcome(self.run_folder(name)), best["step"], best["model"], best["ema"]]

    def assert_like_uninterrupted(self, name: str) -> None:
        assert same(self.end(name), self.whole), name
        assert not [path for path in self.last(name).parent.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Repeated:
    lab = Repeated(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.mark.parametrize("kills", [9, pytest.param(100, marks=pytest.mark.full)])
def test_sigkill_at_random_moments_changes_nothing(lab: Repeated, kills: int, record_property) -> None:
    random, seen, runs = Random(kills), Counter(), 0
    while seen.total() < kills:
        name = f"killed{kills}_{runs}"
        runs += 1
        while True:
            arguments = lab.arguments(name)
            place = random.choice(["anywhere", "anywhere", WRITING, VALIDATING]) if seen.total() < kills else "nowhere"
            if place in (WRITING, VALIDATING):
                process = lab.server.start("forked:killed_in", place, random.randint(1, 150), arguments)
            else:
                process = lab.server.train(*arguments)
            if place == "anywhere" and not process.ended(random.uniform(0, lab.duration)):
                process.send(signal.SIGKILL)
            code = process.wait()
            assert code in (0, -signal.SIGKILL), process.output
            if code == 0:
                break
            seen[place] += 1
        lab.assert_like_uninterrupted(name)
    record_property("figure", f"{seen.total()} kills ({dict(seen)}) in {runs} runs, 0 mismatches")
    print(f"{seen.total()} kills ({dict(seen)}) in {runs} runs")
    assert len(seen) == 3


def wait_for(text: str, process: Forked) -> None:
    while text not in process.output:
        assert not process.ended(0.005), process.output


def group_is_gone(process: Forked) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.full)])
def test_a_signal_to_the_whole_group_saves_and_the_rest_is_bit_identical(
    lab: Repeated, count: int, signum: int
) -> None:
    random, slowest, stops, runs = Random(count), 0.0, 0, 0
    while stops < count:
        name = f"{signal.Signals(signum).name}{count}_{runs}"
        last = lab.folder / "logs" / name / "models/last.pt"
        runs += 1
        for _ in range(3):
            process = lab.server.train(*lab.arguments(name, threads=2))
            wait_for("steps: ", process)
            while not last.exists():
                assert not process.ended(0.005), process.output
            time.sleep(random.uniform(0, lab.duration / 2))
            start = time.perf_counter()
            process.send(signum)
            code = process.wait(10)
            if "finished: " in process.output:
                break
            slowest = max(slowest, time.perf_counter() - start)
            stops += 1
            step = load_checkpoint(last)["step"]
            assert code == 128 + signum and f"step {step} of 15 is saved" in process.output
            assert group_is_gone(process)
            if step == 15:  # nothing is left to stop
                break
        assert lab.server.train(*lab.arguments(name)).wait() == 0
        lab.assert_like_uninterrupted(name)
    print(
        f"{stops} of {stops} stops by {signal.Signals(signum).name} saved, the slowest in {slowest:.2f} s, {runs} runs"
    )


def test_a_closed_terminal_saves_and_the_rest_is_bit_identical(lab: Repeated) -> None:
    """With step 4 a log line is due, which can be written nowhere."""
    process = lab.server.start("forked:hung_up", 4, lab.arguments("hung_up", threads=2))
    assert process.wait() == 128 + signal.SIGHUP
    assert load_checkpoint(lab.last("hung_up"))["step"] == 4 and group_is_gone(process)
    log = (lab.run_folder("hung_up") / "log.txt").read_text()
    assert "step 4/15" in log and "stopped by SIGHUP; step 4 of 15 is saved" in log
    assert lab.server.train(*lab.arguments("hung_up")).wait() == 0
    lab.assert_like_uninterrupted("hung_up")


def test_nohup_is_respected(lab: Repeated) -> None:
    stop = StopSignal(str)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and stop.signum is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_delivered_twice_is_one_and_a_second_one_leaves_at_once(lab: Repeated) -> None:
    """`timeout` and torchrun deliver a signal twice; a user who asks again after a second does not want to wait."""
    process = lab.server.start("forked:hung_disk", lab.arguments("hung", save_every=1000))
    wait_for("step 4/15", process)
    process.send(signal.SIGTERM)
    process.send(signal.SIGTERM)
    assert not process.ended(1.2)
    start = time.perf_counter()
    process.send(signal.SIGTERM)
    assert process.wait(10) == 143 and time.perf_counter() - start < 1
    assert "stopped at once; no checkpoint was written yet" in process.output
    assert lab.server.train(*lab.arguments("hung")).wait() == 0
    lab.assert_like_uninterrupted("hung")

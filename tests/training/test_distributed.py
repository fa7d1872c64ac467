"""Two and more processes as one run: the same numbers, and no survivor of a lost rank."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import torch
from forked import ROOT, Forked
from lab import Lab, free_port
from tiny import same
from tiny_run import outcome

from ssiu.weights.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow  # dozens of processes

RUN = {
    "max_iterations": None, "epochs": 4, "batch_size": 4, "data_repeat": 4, "save_every": 3, "log_every": 4,
    "validation_set": "val", "test_every": 2, "ema_decay": 0.9, "grad_clip": 0.1,
}  # fmt: skip
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def codes(ranks: list[Forked], timeout: float = 60) -> list[int]:
    return [rank.wait(timeout) for rank in ranks]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("ranks"), **RUN)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def whole(lab: Lab) -> list:
    """How two ranks end that nobody disturbs."""
    ranks = lab.train_ranks(2, "whole")
    assert codes(ranks) == [0, 0], [rank.output for rank in ranks]
    assert "finished: 20 iterations" in ranks[0].output and "finished" not in ranks[1].output
    assert not any("strides" in rank.output for rank in ranks), "a warning of torch's that no user can act on"
    return outcome(lab.run_folder("whole"))


# the same numbers as one process


def test_two_ranks_apply_the_gradients_of_one_process(lab: Lab) -> None:
    config = lab.write("gradients", validation_set=None, test_every=0, grad_clip=0, accumulate=2)
    kinds = []
    for world in (1, 2):
        target = lab.folder / f"gradients{world}.pt"
        ranks = lab.start_ranks(world, "ranks:first_gradients", str(config), str(target))
        assert codes(ranks) == [0] * world, [rank.output for rank in ranks]
        kinds.append(torch.load(target, weights_only=True))
    one, two = kinds
    assert one.abs().max() > 0
    assert (two - one).norm() <= 1e-6 * one.norm()


@pytest.mark.parametrize(("optimizer", "worlds"), [("adamw", (1, 2, 4)), ("muon", (1, 2))])
def test_twenty_steps_in_float64_end_in_the_same_weights(lab: Lab, optimizer: str, worlds: tuple[int, ...]) -> None:
    config = lab.write("double", validation_set=None, test_every=0, optimizer=optimizer)
    ends = []
    for world in worlds:
        target = lab.folder / f"double_{optimizer}{world}.pt"
        ranks = lab.start_ranks(world, "ranks:weights_in_double", str(config), str(target))
        assert codes(ranks) == [0] * world, [rank.output for rank in ranks]
        ends.append(torch.load(target, weights_only=True))
    assert ends[0].dtype == torch.float64
    for end in ends[1:]:
        print(f"largest difference {(end - ends[0]).abs().max():.1e}")
        assert (end - ends[0]).abs().max() <= 1e-9


# stops and losses


def test_a_signal_to_one_rank_stops_all_and_the_rest_is_bit_identical(lab: Lab, whole: list) -> None:
    name = "signal"
    ranks = lab.start_ranks(2, "ranks:signalled", signal.SIGTERM, 7, 1, lab.arguments(name))
    assert codes(ranks) == [143, 143], [rank.output for rank in ranks]
    assert "stopped by SIGTERM; step 7 of 20 is saved" in ranks[0].output
    assert load_checkpoint(lab.last(name))["step"] == 7
    assert codes(lab.train_ranks(2, name)) == [0, 0]
    assert same(outcome(lab.run_folder(name)), whole)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.full)])
def test_no_rank_survives_another_and_the_run_goes_on_bit_identically(lab: Lab, whole: list, kills: int) -> None:
    random, slowest, killed, runs = Random(kills), 0.0, 0, 0
    while killed < kills:
        name = f"killed{kills}_{runs}"
        runs += 1
        ranks, victim = lab.train_ranks(2, name), killed % 2
        while "steps: " not in ranks[0].output:
            assert not ranks[0].ended(0.005), ranks[0].output
        if ranks[victim].ended(random.uniform(0.05, 0.6)):
            continue
        start = time.perf_counter()
        ranks[victim].send(signal.SIGKILL)
        survivor = ranks[1 - victim].wait(30)
        slowest = max(slowest, time.perf_counter() - start)
        ranks[victim].wait()
        killed += 1
        assert survivor == 75, ranks[1 - victim].output
        assert "another one died" in ranks[1 - victim].output and "Traceback" not in ranks[1 - victim].output
        assert codes(lab.train_ranks(2, name)) == [0, 0]
        assert same(outcome(lab.run_folder(name)), whole)
    print(f"{killed} ranks killed, the other gone after {slowest:.2f} s at most")


@pytest.mark.parametrize("worlds", [(2, 1), (1, 4)])
def test_a_run_goes_on_with_another_number_of_ranks(lab: Lab, whole: list, worlds: tuple[int, int]) -> None:
    name = f"worlds{worlds}"
    ranks = lab.start_ranks(worlds[0], "ranks:signalled", signal.SIGTERM, 10, 0, lab.arguments(name))
    assert codes(ranks) == [143] * worlds[0]
    assert codes(lab.train_ranks(worlds[1], name)) == [0] * worlds[1]
    state, lines = outcome(lab.run_folder(name))
    assert state["step"] == 20
    assert [line["step"] for line in lines] == [line["step"] for line in whole[1]]
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (lines, whole[1])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_stops_the_first_rank_stops_all(lab: Lab) -> None:
    """The folder is in use: rank 0 says so with its code, the other one leaves."""
    holder = lab.server.train(*lab.arguments("held", epochs=1000))
    while "steps: " not in holder.output:
        assert not holder.ended(0.005)
    ranks = lab.train_ranks(2, "held", epochs=1000)
    assert codes(ranks, 30) == [75, 75]
    assert "in use by pid" in ranks[0].output and "another one died" in ranks[1].output
    holder.send(signal.SIGKILL)
    holder.wait()


def test_nodes_that_do_not_see_the_checkpoints_are_told_to_share_storage(lab: Lab) -> None:
    assert lab.server.train(*lab.arguments("apart")).wait() == 0
    port = free_port()
    group = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": 0}
    nodes = [
        lab.server.train(*lab.arguments("apart"), f"log_path={lab.folder / folder}", RANK=rank, **group)
        for rank, folder in enumerate(("logs", "elsewhere"))
    ]
    assert codes(nodes, 30) == [66, 66]
    assert "use shared storage" in nodes[0].output


def test_settings_that_cannot_be_spread_are_config_errors(lab: Lab) -> None:
    for ranks, message in (
        (lab.train_ranks(2, "odd", batch_size=3), "'batch_size': 3 cannot be split over 2 processes"),
        ([lab.server.train(*lab.arguments("alone"), WORLD_SIZE=2)], "start with torchrun"),
    ):
        assert set(codes(ranks, 30)) == {78} and message in ranks[0].output


# torchrun itself


def torchrun(lab: Lab, name: str, *options: str, **changes: object) -> subprocess.Popen:
    command = [*TORCHRUN, *options, str(ROOT / "train.py"), *lab.arguments(name, **changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def workers_of(agent: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return [int(pid) for pid in children if "train.py" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_two_agents_as_two_nodes_end_like_two_ranks(lab: Lab, whole: list) -> None:
    where = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    agents = [torchrun(lab, "nodes", *where, f"--node_rank={rank}") for rank in range(2)]
    outputs = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert same(outcome(lab.run_folder("nodes")), whole)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_torchrun_leaves_nothing_behind(lab: Lab, whole: list, signum: int) -> None:
    """SIGKILL of a rank; SIGTERM of torchrun itself, as a scheduler sends it, or SIGHUP, as a closed terminal does."""
    name = f"torchrun{signum}"
    agent = torchrun(lab, name, "--standalone", "--nproc_per_node=2", epochs=1000)
    while not lab.last(name).exists():
        assert agent.poll() is None, agent.stdout.read()
        time.sleep(0.05)
    workers = workers_of(agent)
    assert len(workers) == 2
    start = time.perf_counter()
    os.kill(workers[1] if signum == signal.SIGKILL else agent.pid, signum)
    output = agent.communicate(timeout=30)[0]
    print(f"torchrun gone after {time.perf_counter() - start:.1f} s with code {agent.returncode}")
    assert agent.returncode == 1 and not any(Path(f"/proc/{pid}").exists() for pid in workers), output
    step = load_checkpoint(lab.last(name))["step"]
    if signum == signal.SIGKILL:
        assert "error: rank 0 of 2 ends because another one died" in output
    else:
        assert f"stopped by {signum.name}; step {step} of 5000 is saved" in output

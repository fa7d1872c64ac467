"""A study of three variants and three seeds: killed, stopped, continued, changed, made by two at once."""

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forked
from lab import Lab
from tiny import same
from tiny_run import outcome, tiny_config

from ssiu.cli import study, table
from ssiu.errors import ConfigError, MissingInputError, NonFiniteError

VARIANTS = ("whole", "no_moe", "l1")
SEEDS = (1, 2, 3)
NAMES = [f"{variant}_seed{seed}" for seed in SEEDS for variant in VARIANTS]
PATIENCE = 600  # seconds, on a machine that is busy
TEXT = """
base: {base}
seeds: [1, 2, 3]
variants:
  whole: {{}}
  no_moe: {{moe: false}}
  l1: {{lambda_fft: 0}}
"""
slow = pytest.mark.slow  # some twenty runs, most of them a command of their own
SHORT = TEXT.replace("[1, 2, 3]", "[1]").replace("  l1: {{lambda_fft: 0}}\n", "")  # two runs


class StudyLab(Lab):
    """Study files of tiny runs; their folders lie in ``folder/logs``."""

    def __init__(self, folder: Path):
        super().__init__(folder, eval_sets=["toy"], save_image=False, max_iterations=2, save_every=1)

    def file(self, name: str, text: str = TEXT) -> Path:
        path = self.folder / f"{name}.yml"
        path.write_text(text.format(base=self.config))
        return path

    def start(self, name: str, *arguments: str) -> Forked:
        return self.server.start("forked:command", "study", [str(self.folder / f"{name}.yml"), *arguments])

    def finish(self, name: str) -> str:
        """Runs the study to its end; what it printed."""
        process = self.start(name)
        assert process.wait(PATIENCE) == 0, process.output
        return process.output

    def summary(self, name: str, run: str) -> Path:
        return self.folder / "logs" / name / run / "results/test/summary.json"

    def end(self, name: str, run: str) -> list:
        """Of a run: its last state, its log of losses, its scores."""
        state, losses = outcome(self.folder / "logs" / name / run)
        state["config"].pop("log_path")
        summary = json.loads(self.summary(name, run).read_text())
        return [state, losses, {key: value for key, value in summary.items() if key != "checkpoint"}]

    def wait_for(self, path: Path, process: Forked) -> None:
        while not path.exists():
            assert not process.ended(0.01), process.output


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyLab]:
    """The study ``toy`` of nine runs, which was killed and stopped on its way."""
    lab = StudyLab(tmp_path_factory.mktemp("lab"))
    lab.file("toy")
    killed = lab.start("toy")
    lab.wait_for(lab.folder / "logs/toy" / NAMES[1] / "models/last.pt", killed)
    killed.send(signal.SIGKILL)
    killed.wait()
    first = lab.summary("toy", NAMES[0]).stat().st_mtime_ns
    stopped = lab.start("toy")
    lab.wait_for(lab.folder / "logs/toy" / NAMES[4] / "models/last.pt", stopped)
    stopped.send(signal.SIGINT)
    assert stopped.wait(PATIENCE) == 130, stopped.output
    assert "stopped" in stopped.output and "Traceback" not in stopped.output
    assert "9 runs of 9 finished" in lab.finish("toy")
    assert lab.summary("toy", NAMES[0]).stat().st_mtime_ns == first
    yield lab
    lab.close()


@slow
def test_a_study_that_was_killed_and_stopped_has_the_numbers_of_one_that_was_not(lab: StudyLab) -> None:
    path = str(lab.file("calm"))
    for run in (NAMES[1], NAMES[4]):
        study.main([path, "--only", run])
        assert same(lab.end("toy", run), lab.end("calm", run))


@slow
def test_the_table_has_means_deviations_sizes_and_differences_to_the_first_variant(lab: StudyLab, capsys) -> None:
    study.main([str(lab.folder / "toy.yml"), "--table"])
    printed = capsys.readouterr().out
    scores = {
        run: json.loads(lab.summary("toy", run).read_text())["protocols"]["standard"]["toy"]["psnr"] for run in NAMES
    }
    of = {variant: [scores[f"{variant}_seed{seed}"] for seed in SEEDS] for variant in VARIANTS}
    lines = printed.splitlines()
    for variant in VARIANTS:
        mean = sum(of[variant]) / 3
        deviation = (sum((score - mean) ** 2 for score in of[variant]) / 2) ** 0.5
        row = next(line for line in lines if line.startswith(f"{variant} "))
        assert " 3 " in row and f"{mean:.3f} ± {deviation:.3f} / 0." in row
    no_moe = [line for line in lines if line.startswith("no_moe ")]
    gains = [a - b for a, b in zip(of["no_moe"], of["whole"], strict=True)]
    gain = sum(gains) / 3
    half = 4.3027 * (sum((each - gain) ** 2 for each in gains) / 2) ** 0.5 / 3**0.5  # t of 2 degrees of freedom
    assert f"{gain:+.3f} ± {half:.3f} / " in no_moe[1]
    assert no_moe[0].split()[2] != next(line for line in lines if line.startswith("whole ")).split()[2]  # parameters
    assert "9 runs of 9 finished" in printed
    folder = lab.folder / "logs/toy"
    assert len((folder / "table.csv").read_text().splitlines()) == 1 + 9 * 2  # two protocols, one set
    assert "±" in (folder / "table.tex").read_text() and "±" in (folder / "table.html").read_text()


@slow
def test_a_finished_study_runs_nothing_and_a_seed_or_a_variant_added_later_only_itself(lab: StudyLab, capsys) -> None:
    shutil.copytree(lab.folder / "logs/toy", lab.folder / "logs/grown")
    path = lab.file("grown")
    times = {run: lab.summary("grown", run).stat().st_mtime_ns for run in NAMES}
    study.main([str(path)])
    assert "9 runs of 9 finished" in capsys.readouterr().out
    path = lab.file("grown", TEXT.replace("2, 3]", "2, 3, 4]") + "  plus: {{beta_sign: plus}}\n")
    study.main([str(path), "--only", "plus_seed4"])
    study.main([str(path), "--only", "1"])
    study.main([str(path), "--table"])
    printed = capsys.readouterr().out
    assert "10 runs of 16 finished" in printed
    assert "Not finished: plus_seed1, plus_seed2, plus_seed3, whole_seed4, no_moe_seed4 and 1 more" in printed
    assert times == {run: lab.summary("grown", run).stat().st_mtime_ns for run in NAMES}
    study.main([str(lab.file("grown", TEXT.replace("2, 3]", "2]"))), "--table"])
    assert "6 runs of 6 finished" in capsys.readouterr().out


@slow
def test_sets_asked_for_later_are_scored_without_training_again(lab: StudyLab, capsys) -> None:
    shutil.copytree(lab.folder / "logs/toy", lab.folder / "logs/rescored")
    path = str(lab.file("rescored"))
    models = lab.folder / "logs/rescored/l1_seed2/models/last.pt"
    before = models.stat().st_mtime_ns
    study.main([path, "eval_sets=[toy,val]", "--only", "l1_seed2"])
    assert models.stat().st_mtime_ns == before
    assert [*json.loads(lab.summary("rescored", "l1_seed2").read_text())["protocols"]["standard"]] == ["toy", "val"]


@slow
def test_a_renamed_variant_or_another_setting_is_said_before_anything_is_trained(lab: StudyLab) -> None:
    shutil.copytree(lab.folder / "logs/toy", lab.folder / "logs/changed")
    path = str(lab.file("changed", TEXT.replace("no_moe:", "without:")))
    with pytest.raises(ConfigError, match=r"no_moe_seed1 holds the run that is called without_seed1 now: rename"):
        study.main([path])
    for seed in SEEDS:
        runs = lab.folder / "logs/changed"
        (runs / f"no_moe_seed{seed}").rename(runs / f"without_seed{seed}")
    study.main([path])
    path = str(lab.file("changed", TEXT.replace("no_moe: {{moe: false}}", "without: {{moe: false, lr: 5e-4}}")))
    with pytest.raises(
        ConfigError, match=r"without_seed1/config.yml is of a run with other settings: lr: 0.001 -> 0.0"
    ):
        study.main([path])
    assert not (lab.folder / "logs/changed/no_moe_seed1").exists()


@slow
def test_a_full_disk_ends_the_study_at_once_in_a_line_and_two_at_once_share_what_is_left(lab: StudyLab) -> None:
    path = lab.file("shared", SHORT)
    process = lab.server.start("forked:small_disk", 20_000, [str(path)], "study")
    assert process.wait(PATIENCE) == 74, process.output
    assert "Traceback" not in process.output and not (lab.folder / "logs/shared" / NAMES[1]).exists()
    both = [lab.start("shared") for _ in range(2)]
    codes = [process.wait(PATIENCE) for process in both]
    assert set(codes) <= {0, 75} and not any("Traceback" in process.output for process in both), both[0].output
    assert "2 runs of 2 finished" in lab.finish("shared")
    assert all(same(lab.end("shared", run), lab.end("toy", run)) for run in NAMES[:2])


@slow
def test_a_run_that_diverges_or_is_held_by_another_leaves_the_others_to_be_made(lab: StudyLab, capsys) -> None:
    path = str(lab.file("wild", SHORT.replace("no_moe: {{moe: false}}", "wild: {{lr: 1e3, optimizer: adam}}")))
    with pytest.raises(NonFiniteError, match=r"1 problem, listed above; the first: wild_seed1: "):
        study.main([path])
    printed = capsys.readouterr().out
    assert "1 run of 2 finished" in printed and "Not finished: wild_seed1." in printed
    lab.file("held", SHORT)
    folder = lab.folder / "logs/held/no_moe_seed1"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = lab.start("held")
        assert process.wait(PATIENCE) == 75, process.output
    assert "1 run of 2 finished" in process.output and "no_moe_seed1: " in process.output


@slow
def test_a_row_of_table_may_be_several_seeds(lab: StudyLab, capsys) -> None:
    pattern = lab.folder / "logs/toy/whole_seed*/results/test/summary.json"
    table.main(["--scale", "2", f"tiny={pattern}", "--data", str(lab.folder / "data")])
    printed = capsys.readouterr().out
    scores = [
        json.loads(lab.summary("toy", f"whole_seed{seed}").read_text())["protocols"]["standard"]["toy"]["psnr"]
        for seed in SEEDS
    ]
    mean = sum(scores) / 3
    deviation = (sum((score - mean) ** 2 for score in scores) / 2) ** 0.5
    assert f"{mean:.2f} ± {deviation:.2f} / 0." in printed
    assert "tiny: mean ± standard deviation of 3 seeds" in printed


@slow
def test_every_command_makes_one_run(lab: StudyLab, capsys) -> None:
    path = lab.file("jobs", TEXT.replace("[1, 2, 3]", "[7]"))
    study.main([str(path), "--commands", "max_iterations=2"])
    commands = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in commands] == [[f"{v}_seed7", "max_iterations=2"] for v in VARIANTS]
    assert not (lab.folder / "logs/jobs").exists()
    study.main([*commands[1].split()[4:]])
    assert [path.name for path in (lab.folder / "logs/jobs").iterdir()] == ["no_moe_seed7"]
    with pytest.raises(ConfigError, match=r"--only 4: expected a number from 1 to 3, or one of whole_seed7, "):
        study.main([str(path), "--only", "4"])
    with pytest.raises(ConfigError, match="give --only NAME to torchrun's command"):
        os.environ["WORLD_SIZE"] = "2"
        try:
            study.main([str(path)])
        finally:
            del os.environ["WORLD_SIZE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [1]", "key 'base': expected a config"),
        ("base: {base}\nseeds: 1", r"key 'seeds': expected different whole numbers"),
        ("base: {base}\nseeds: [1, 1]\nvariants: {{a: {{}}}}", r"key 'seeds': expected different whole numbers"),
        ("base: {base}\nseeds: [1]", "key 'variants': expected names with their settings, got None"),
        ("base: {base}\nseeds: [1]\nvariants: {{a: 3}}", "variant a: expected settings, such as"),
        ("base: {base}\nseeds: [1]\nvariants: {{a: {{seed: 3}}}}", "variant a: seed: put it into 'seeds'"),
        ("base: {base}\nseeds: [1]\nvariants: {{a: {{}}, A: {{moe: false}}}}", "differ in case only"),
        ("base: {base}\nseeds: [1]\nvariants: {{a/b: {{}}}}", "key 'log_name': expected a plain folder name"),
        (
            "base: {base}\nseeds: [1]\nvariants: {{a: {{mo: false}}}}",
            "variant a: .*unknown key 'mo'; did you mean 'moe'",
        ),
        ("base: {base}\nseeds: [1]\nvariants: {{a: {{}}, b: {{lambda_fft: 0.01}}}}", "a and b are the same training"),
        ("base: {base}\nseeds: [1]\nvariants: {{a: {{}}, b: {{scale: 3}}}}", "variant b: scale: 3, but 2 in a"),
        ("base: {base}\nseeds: [1]\nvariants: {{a: {{eval_sets: []}}}}", "key 'eval_sets': empty"),
        ("base: {base}\nsedes: [1]", "unknown key 'sedes'; a study has base, common, seeds, variants"),
    ],
)
def test_a_study_file_that_cannot_be_meant_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    base, path = tmp_path / "base.yml", tmp_path / "wrong.yml"
    base.write_text(tiny_config(tmp_path, eval_sets=["toy"]).to_yaml())
    path.write_text(text.format(base=base))
    with pytest.raises(ConfigError, match=message):
        study.main([str(path)])


@slow
def test_what_is_missing_is_named_before_the_first_run(lab: StudyLab) -> None:
    with pytest.raises(MissingInputError, match="expected a study"):
        study.main([str(lab.folder / "absent.yml")])
    path = str(lab.file("early"))
    with pytest.raises(ConfigError, match="no set is called absent"):
        study.main([path, "eval_sets=[toy,absent]"])
    assert not (lab.folder / "logs/early").exists()


@slow
def test_one_run_may_be_spread_over_processes_by_torchrun(lab: StudyLab) -> None:
    path = lab.file("spread", SHORT)
    ranks = lab.start_ranks(2, "forked:command", "study", [str(path), "--only", NAMES[0]])
    assert [rank.wait(PATIENCE) for rank in ranks] == [0, 0], [rank.output for rank in ranks]
    assert lab.summary("spread", NAMES[0]).exists()

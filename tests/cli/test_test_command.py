"""test.py as a user runs it: what it prints and writes, and how every mistake ends."""

import contextlib
import datetime
import html
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import safetensors
import torch
from small_sets import photo, small_set, write_set

import ssiu
from ssiu.cli import table as table_command
from ssiu.cli import test as command
from ssiu.cli.console import run_cli
from ssiu.config.load import load_config
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError
from ssiu.evaluation.metrics import score
from ssiu.evaluation.score_folders import score_folders
from ssiu.images.io import read_rgb
from ssiu.models import SSIU
from ssiu.report.results import open_results, results_name
from ssiu.weights import shipped
from ssiu.weights.formats import read_weights, save_authors_weights, save_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs test.py in ``tmp_path`` on a small Set5 at x2; no shipped weights are in sight."""
    small_set(tmp_path / "data", 2)
    (tmp_path / "config.yml").write_text(
        f"model: SSUFSR\nscale: 2\nn_feats: 8\nnum_heads: 4\nn_blocks: 3\neval_sets: [Set5]\ndevice: cpu\n"
        f"data_path: {tmp_path}/data\n"
    )
    monkeypatch.setattr(shipped, "SHIPPED", (tmp_path / "pretrain_model",))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: command.main(["--config", "config.yml", *map(str, arguments)])


def _network(scale=2, seed=0):
    torch.manual_seed(seed)
    return SSIU(scale, n_feats=8, num_heads=4, n_blocks=3)


def test_weights_that_training_replaces_meanwhile_are_not_mixed_up(run, tmp_path, monkeypatch):
    """Another file is there as soon as the first one was read."""
    first, second = (save_weights(tmp_path / f"{seed}.safetensors", _network(seed=seed)) for seed in (0, 1))
    opened, really_open = [], safetensors.safe_open

    @contextlib.contextmanager
    def replaced_then(path, **arguments):
        with really_open(path, **arguments) as file:
            yield file
        opened.append(path)
        shutil.copy(tmp_path / "1.safetensors", path)

    run("pretrain=0.safetensors", "--output", "whole")
    whole = json.loads((tmp_path / "whole/summary.json").read_text())
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "last.safetensors")
    monkeypatch.setattr(safetensors, "safe_open", replaced_then)
    run("pretrain=last.safetensors", "--output", "replaced")
    summary = json.loads((tmp_path / "replaced/summary.json").read_text())
    assert opened and read_weights(tmp_path / "last.safetensors").sha256 == second != first
    assert summary == whole | {"checkpoint": "last.safetensors"} and summary["weights_sha256"] == first


def test_the_results_folder_holds_what_is_documented(run, tmp_path, capsys):
    save_weights(tmp_path / "w.safetensors", _network())
    run("pretrain=w.safetensors")
    folder = tmp_path / "results/w_x2"
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == [
        *("model", "scale", "checkpoint", "weights_sha256", "precision", "self_ensemble", "version", "date"),
        *("protocols", "parameters", "macs_1280x720"),
    ]
    assert (summary["precision"], summary["self_ensemble"]) == ("fp32", False)
    assert summary["parameters"] == sum(p.numel() for p in _network().parameters())
    assert 1e9 < summary["macs_1280x720"] < 1e10
    assert (summary["model"], summary["scale"], summary["checkpoint"]) == ("SSIU", 2, "w.safetensors")
    assert summary["weights_sha256"] == read_weights(tmp_path / "w.safetensors").sha256
    assert list(summary["protocols"]) == ["standard", "official"]
    for sets in summary["protocols"].values():
        assert list(sets) == ["Set5"]
        assert list(sets["Set5"]) == ["psnr", "ssim", "images"]
        assert sets["Set5"]["images"] == 3
    assert len((folder / "per_image.csv").read_text().splitlines()) == 1 + 3
    assert load_config(folder / "config.yml").pretrain == "w.safetensors"
    rescored = score_folders(folder / "images/Set5", tmp_path / "data/benchmark/Set5/HR", 2)
    assert rescored.mean("Set5").psnr == summary["protocols"]["standard"]["Set5"]["psnr"]
    page = (folder / "report.html").read_text()
    assert page.count("<figure ") == 3
    assert summary["version"] == ssiu.__version__ and datetime.date.fromisoformat(summary["date"])
    assert f"{summary['date']} with ssiu {ssiu.__version__}" in page
    assert summary["weights_sha256"][:12] in page
    assert read_rgb(folder / "images/Set5/astronaut_x2.png").shape == (64, 80, 3)
    printed = capsys.readouterr().out
    for title in (
        "bicubic (standard)",
        "SSIU (standard)",
        "SSIU (official)",
        "paper's SSIU (official)",
        "38.31 / 0.9632",
    ):
        assert title in printed
    assert f"{summary['protocols']['standard']['Set5']['psnr']:.2f} / " in printed


def test_no_weights_anywhere_says_where_it_looked(run):
    with pytest.raises(MissingInputError, match=r"pretrain_model/model_x2_290\.pt.*SSIU_x2.safetensors.*pretrain="):
        run()


def test_shipped_weights_are_found_the_authors_first(run, tmp_path, capsys):
    (tmp_path / "pretrain_model").mkdir()
    save_weights(tmp_path / "pretrain_model/SSIU_x2.safetensors", _network(seed=2))
    run("--output", "ours")
    assert "weights: pretrain_model/SSIU_x2.safetensors (sha256" in capsys.readouterr().out.replace(f"{tmp_path}/", "")
    save_authors_weights(tmp_path / "pretrain_model/model_x2_290.pt", _network(seed=1))
    run("--output", "theirs")
    assert "weights: pretrain_model/model_x2_290.pt (sha256" in capsys.readouterr().out.replace(f"{tmp_path}/", "")
    theirs, ours = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("theirs", "ours"))
    assert theirs["weights_sha256"] == read_weights(tmp_path / "pretrain_model/model_x2_290.pt").sha256
    assert theirs["weights_sha256"] != ours["weights_sha256"]
    assert theirs["protocols"] != ours["protocols"]


def test_weights_of_another_scale_or_size_are_refused(run, tmp_path):
    save_weights(tmp_path / "x3.safetensors", _network(3))
    with pytest.raises(BadInputError, match="scale=3, config scale=2"):
        run("pretrain=x3.safetensors")
    save_weights(tmp_path / "x2.safetensors", _network())
    with pytest.raises(BadInputError, match="n_feats=8, config n_feats=16"):
        run("pretrain=x2.safetensors", "n_feats=16")


def test_architecture_keys_that_leave_no_trace_in_the_authors_weights_act(run, tmp_path):
    save_authors_weights(tmp_path / "w.pt", _network())
    run("pretrain=w.pt", "--output", "minus")
    run("pretrain=w.pt", "--output", "plus", "beta_sign=plus")
    minus, plus = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("minus", "plus"))
    assert minus["protocols"] != plus["protocols"]


def test_float_is_a_third_protocol_on_request(run, tmp_path, capsys):
    save_authors_weights(tmp_path / "w.pt", _network())
    run("pretrain=w.pt", "--output", "out", "--float")
    protocols = json.loads((tmp_path / "out/summary.json").read_text())["protocols"]
    means = {protocol: sets["Set5"] for protocol, sets in protocols.items()}
    assert list(means) == ["standard", "official", "float"]
    assert means["float"]["psnr"] != means["standard"]["psnr"] and means["float"]["ssim"] < means["official"]["ssim"]
    assert "SSIU (float)" in capsys.readouterr().out
    page = (tmp_path / "out/report.html").read_text()
    assert "<b>float</b>: the raw output" in page and "PSNR (float)" in page
    table_command.main([str(tmp_path / "out/summary.json")])
    assert "Table I, x2, float" in capsys.readouterr().out


def test_a_missing_set_is_named_before_any_work_with_the_key_for_the_others(run, tmp_path):
    with pytest.raises(MissingInputError, match=r"Manga109.*ssiu download .*add 'eval_sets=\[Set5\]' to the"):
        run("eval_sets=[Set5,Manga109]")
    assert not (tmp_path / "results").exists()


def test_a_set_with_lr_images_only_lacks_its_hr_images(run, tmp_path):
    for name in ("My", "benchmark/Other"):
        (tmp_path / "data" / name / "LR_bicubic/X2").mkdir(parents=True)
    for name, folder in (("My", "My"), ("Other", "benchmark/Other"), ("other", "benchmark/Other")):
        with pytest.raises(MissingInputError, match=rf"{name}: .*data/{folder} has no HR folder"):
            run(f"eval_sets=[Set5,{name}]", "data_path=data")


def test_weights_of_the_authors_that_are_not_there_can_be_downloaded(run):
    with pytest.raises(MissingInputError, match=r"model_x2_290\.pt; .*python -m ssiu download weights"):
        run("pretrain=pretrain_model/model_x2_290.pt")


def test_without_any_data_the_next_steps_are_named(run, tmp_path):
    for data_path, reason in (("nowhere", r"nowhere: no such folder"), ("empty here", "missing test sets: Set5")):
        (tmp_path / "empty here").mkdir(exist_ok=True)
        with pytest.raises(MissingInputError, match=reason) as error:
            run(f"data_path={data_path}")
        message = str(error.value)
        for step in ("ssiu download benchmark --to", "docs/data.md", "ssiu quickstart", "ssiu upscale"):
            assert step in message
        assert "eval_sets=[]" not in message and "\n" not in message
    assert "--to 'empty here'" in message


def test_a_run_and_its_checkpoint_name_the_results(tmp_path):
    (tmp_path / "logs/mine/models").mkdir(parents=True)
    (tmp_path / "logs/mine/metrics.jsonl").touch()
    assert results_name(tmp_path / "logs/mine/models/best.pt", 2) == "mine_best_x2"
    assert results_name(tmp_path / "pretrain_model/SSIU_x4.safetensors", 4) == "SSIU_x4"
    assert results_name(tmp_path / "model_x3_290.pt", 3) == "model_x3_290"
    assert results_name(tmp_path / "VapSR_X4.pth", 4) == "VapSR_X4"
    assert results_name(tmp_path / "mix42.pth", 4) == "mix42_x4"


def test_two_ablations_have_two_folders_and_a_second_run_of_one_is_refused(run, tmp_path):
    for name, seed in (("with", 0), ("without", 1)):
        save_weights(tmp_path / f"{name}.safetensors", _network(seed=seed))
        run(f"pretrain={name}.safetensors")
    with_it = (tmp_path / "results/with_x2/summary.json").read_bytes()
    assert with_it != (tmp_path / "results/without_x2/summary.json").read_bytes()
    before = (tmp_path / "results/with_x2/images/Set5/coffee_x2.png").stat().st_mtime_ns
    with pytest.raises(OutputError, match="holds results already; --output DIR keeps both, --overwrite replaces"):
        run("pretrain=with.safetensors", "self_ensemble=true")
    assert (tmp_path / "results/with_x2/summary.json").read_bytes() == with_it
    assert (tmp_path / "results/with_x2/images/Set5/coffee_x2.png").stat().st_mtime_ns == before
    run("pretrain=with.safetensors", "self_ensemble=true", "--overwrite")
    assert (tmp_path / "results/with_x2/summary.json").read_bytes() != with_it


def test_an_unfinished_run_is_done_again_without_asking(run, tmp_path, monkeypatch):
    save_weights(tmp_path / "w.safetensors", _network())
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("ssiu.cli.test.write_results", _interrupt)
        run("pretrain=w.safetensors")
    assert (tmp_path / "results/w_x2/images/Set5/coffee_x2.png").exists()
    run("pretrain=w.safetensors")
    assert (tmp_path / "results/w_x2/summary.json").exists()


def _interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_two_at_once_never_mix(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    config = load_config(tmp_path / "config.yml")
    with open_results(tmp_path / "results/w_x2", config), pytest.raises(BusyError, match="another test run"):
        run("pretrain=w.safetensors", "--overwrite")
    run("pretrain=w.safetensors")


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (["--batch_size", "16"], "batch_size=16 instead of --batch_size"),
        (["--batch-size=16"], "batch_size=16 instead of --batch-size"),
        (["--learning_rate", "1e-3"], "lr=1e-3 instead of --learning_rate"),
        (["learning_rate=1e-3"], "unknown key 'learning_rate'; here it is called 'lr'"),
        (["--compile"], "compile=VALUE instead of --compile"),
    ],
)
def test_keys_in_the_manner_of_other_programs_are_answered_with_ours(run, arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        run(*arguments)


def test_every_image_is_scored_once_under_every_protocol_shown(run, tmp_path, monkeypatch):
    scored = []

    def counted(sr, hr, scale, protocol):
        scored.append(protocol)
        return score(sr, hr, scale, protocol)

    monkeypatch.setattr("ssiu.evaluation.evaluate.score", counted)
    save_weights(tmp_path / "w.safetensors", _network())
    run("pretrain=w.safetensors")
    assert Counter(scored) == {"standard": 2 * 3, "official": 3}, "three images; bicubic is shown under standard"


def test_a_set_named_twice_is_a_config_error_whatever_its_case(run, tmp_path):
    with pytest.raises(ConfigError, match="every set once"):
        run("eval_sets=[Set5,set5]")
    assert not (tmp_path / "results").exists()


def test_a_file_name_that_is_not_utf8_is_refused_before_any_image_is_scored(run, tmp_path, monkeypatch):
    save_weights(tmp_path / "w.safetensors", _network())
    monkeypatch.setattr("ssiu.evaluation.evaluate.score", lambda *_: pytest.fail("scored"))
    for path in (tmp_path / "data/benchmark/Set5").rglob("astronaut*.png"):
        path.rename(os.fsdecode(os.fsencode(path).replace(b"astronaut", b"caf\xe9")))
    with pytest.raises(BadInputError, match=r"Set5/'caf\\udce9': the file name is not UTF-8; rename it"):
        run("pretrain=w.safetensors")


def test_a_name_too_long_for_its_sr_image_is_refused_before_earlier_results_go(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    run("pretrain=w.safetensors")
    before = (tmp_path / "results/w_x2/summary.json").read_bytes()
    for path in (tmp_path / "data/benchmark/Set5").rglob("astronaut*.png"):
        path.rename(path.with_name(path.name.replace("astronaut", "a" * 249)))
    with pytest.raises(
        BadInputError,
        match=rf"Set5/{'a' * 249}: the name is too long.*_x2\.png, would have 256 bytes, and 255 are the most",
    ):
        run("pretrain=w.safetensors", "--overwrite")
    assert (tmp_path / "results/w_x2/summary.json").read_bytes() == before
    run("pretrain=w.safetensors", "--overwrite", "save_image=false")
    assert "a" * 249 in (tmp_path / "results/w_x2/per_image.csv").read_text()


def test_an_output_folder_whose_name_is_not_utf8_gets_its_results(run, tmp_path, capsys):
    save_weights(tmp_path / "w.safetensors", _network())
    output = os.fsdecode(b"caf\xe9")
    with pytest.raises(SystemExit) as ended:
        run_cli(command.main, ["--config", "config.yml", "pretrain=w.safetensors", "--output", output])
    assert ended.value.code == 0
    assert r"look at caf\udce9/report.html" in capsys.readouterr().out
    assert r"--output 'caf\udce9'" in html.unescape((tmp_path / output / "report.html").read_text())


def test_an_output_folder_whose_name_is_too_long_is_an_output_error(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    with pytest.raises(OutputError, match="File name too long"):
        run("pretrain=w.safetensors", "--output", "n" * 300)


def test_an_unknown_set_and_no_set_at_all_are_config_errors(run):
    with pytest.raises(ConfigError, match=r"Set55.*known:.*Set5"):
        run("eval_sets=[Set55]")
    with pytest.raises(ConfigError, match="nothing to test"):
        run("eval_sets=[]")


def test_results_of_an_earlier_run_are_replaced_and_nothing_else_is(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    write_set(tmp_path / "data", "mine", 2, {"cat": photo("chelsea", 40, 40)})
    run("pretrain=w.safetensors", "eval_sets=[Set5,mine]", "--output", "out")
    assert (tmp_path / "out/images/mine/cat_x2.png").exists()
    run("pretrain=w.safetensors", "save_image=false", "--output", "out", "--overwrite")
    assert not (tmp_path / "out/images").exists()
    assert list(json.loads((tmp_path / "out/summary.json").read_text())["protocols"]["standard"]) == ["Set5"]

    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not a results folder \(notes\.txt\)"):
        run("pretrain=w.safetensors", "--output", "out", "--overwrite")
    assert (tmp_path / "out/summary.json").exists()


def test_a_folder_of_images_is_never_taken_for_results(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    (tmp_path / "album/images").mkdir(parents=True)
    (tmp_path / "album/images/holiday.png").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "album")
    for name in ("album", "link"):
        with pytest.raises(OutputError):
            run("pretrain=w.safetensors", "--output", name)
    assert (tmp_path / "album/images/holiday.png").read_bytes() == b"precious"


def test_an_output_folder_that_cannot_be_made_is_named_before_the_network_runs(run, tmp_path, monkeypatch):
    save_weights(tmp_path / "w.safetensors", _network())
    monkeypatch.setattr("ssiu.report.scored.evaluate", lambda *_, **__: pytest.fail("evaluated"))
    with pytest.raises(OutputError, match=r"config\.yml/out"):
        run("pretrain=w.safetensors", "--output", "config.yml/out")


def test_a_run_is_never_compared_with_itself(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    run("pretrain=w.safetensors")
    before = (tmp_path / "results/w_x2/report.html").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "results/w_x2")
    for output in ((), ("--output", "results/w_x2"), ("--output", tmp_path / "results/../results/w_x2")):
        for beside in ("results/w_x2", "link"):
            with pytest.raises(ConfigError, match=f"--beside {beside}: this run writes there"):
                run("pretrain=w.safetensors", *output, "--overwrite", "--beside", beside)
    assert (tmp_path / "results/w_x2/report.html").read_bytes() == before


def test_the_table_is_printed_even_where_the_page_cannot_be_made(run, tmp_path, capsys):
    save_weights(tmp_path / "w.safetensors", _network())
    run("pretrain=w.safetensors", "--output", "first")
    table = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Set5 "))
    damaged = tmp_path / "first/images/Set5/coffee_x2.png"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match=r"coffee_x2\.png"):
        run("pretrain=w.safetensors", "--output", "second", "--beside", "first")
    assert table in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--beside", "first"), ("--shown", "all"), ("--shown", "2")])
def test_images_are_not_asked_for_and_left_out_at_once(run, tmp_path, option):
    with pytest.raises(ConfigError, match="--beside and --shown put images on the page, which save_image=false leaves"):
        run("save_image=false", *option)


def test_what_a_system_or_a_killed_run_left_in_the_folder_is_no_obstacle(run, tmp_path):
    save_weights(tmp_path / "w.safetensors", _network())
    (tmp_path / "out").mkdir()
    for number, overwrite in enumerate(((), ("--overwrite",))):
        (tmp_path / f"out/.ssiu-{number}.part").write_text("of a killed one")
        (tmp_path / "out/.DS_Store").write_text("the Finder's")
        run("pretrain=w.safetensors", "--output", "out", *overwrite)
        names = {"config.yml", "summary.json", "per_image.csv", "report.html", "images", ".DS_Store", ".lock"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_from_the_command_line_a_mistake_is_one_line_and_an_exit_code(tmp_path):
    command = [sys.executable, str(ROOT / "test.py"), "--config", str(ROOT / "configs/SSUFSR_light_x4.yml")]
    done = subprocess.run([*command, "evalsets=[Set5]"], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "did you mean 'eval_sets'" in done.stderr


def test_the_authors_checkpoint_runs_from_the_shipped_config(shared, tmp_path, capsys, caplog):
    arguments = ["--config", ROOT / "configs/SSUFSR_light_x4.yml", "--output", tmp_path / "out"]
    arguments += [f"data_path={shared}/data", "eval_sets=[Set5]", f"pretrain={shared}/reference/official_x4.pt"]
    with caplog.at_level("INFO", "ssiu"):
        command.main([*map(str, arguments), "device=cpu"])
    assert "loaded 439/439 tensors" in caplog.text
    assert "28.43 / 0.8111" in capsys.readouterr().out, "bicubic"
    assert json.loads((tmp_path / "out/summary.json").read_text())["protocols"]["standard"]["Set5"]["images"] == 5

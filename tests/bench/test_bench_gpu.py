"""`ssiu benchmark gpu`, its whole list on a CPU at toy size: so that it works the first time there is a GPU."""

import json
import time

import pytest

from ssiu.bench import gpu
from ssiu.bench.gpu_checks import CHECKS
from ssiu.bench.gpu_lab import Check
from ssiu.cli import main
from ssiu.errors import ConfigError, MissingInputError, OutputError


@pytest.mark.slow
def test_every_check_runs_and_writes_its_figures(tmp_path, capsys):
    output = tmp_path / "gpu.json"
    main(["benchmark", "gpu", "--device", "cpu", "--toy", "--output", str(output)])
    found = json.loads(output.read_bytes())["checks"]
    assert list(found) == [check.name for check in CHECKS]
    assert not {name: figures for name, figures in found.items() if "error" in figures}
    assert found["output parity"]["float32_graphed"] < 1e-5
    assert found["resume"]["deterministic_equal"] is True
    assert found["PSNR x2"]["bf16"] == pytest.approx(found["PSNR x2"]["fp32"], abs=0.05)


def benchmark(monkeypatch, output, *checks: Check, minutes: int = 1) -> str:
    monkeypatch.setattr(gpu, "CHECKS", list(checks))
    main(["benchmark", "gpu", "--device", "cpu", "--output", str(output), "--minutes", str(minutes)])
    return json.loads(output.read_bytes())["checks"]


def test_a_failure_costs_one_check_and_is_tried_again_but_what_is_done_is_not(tmp_path, monkeypatch):
    calls = []

    def fine(lab):
        calls.append("fine")
        return {"ms": len(calls)}

    def broken(lab):
        calls.append("broken")
        raise RuntimeError("CUDA error: misaligned address")

    checks = Check("a", 0, broken), Check("b", 0, fine)
    found = benchmark(monkeypatch, tmp_path / "gpu.json", *checks)
    assert found["a"]["error"] == "RuntimeError: CUDA error: misaligned address" and found["b"]["ms"] == 2
    again = benchmark(monkeypatch, tmp_path / "gpu.json", *checks)
    assert calls == ["broken", "fine", "broken"] and again["b"] == found["b"]


def test_what_is_known_is_written_before_the_next_begins(tmp_path, monkeypatch):
    def interrupted(lab):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark(monkeypatch, tmp_path / "gpu.json", Check("a", 0, lambda lab: {"ms": 1}), Check("b", 0, interrupted))
    assert json.loads((tmp_path / "gpu.json").read_bytes())["checks"]["a"]["ms"] == 1


def test_no_check_begins_that_cannot_end_in_time_and_a_slow_one_is_stopped(tmp_path, monkeypatch, capsys):
    def slow(lab):
        time.sleep(30)

    checks = Check("long", 3600, lambda lab: {"ms": 1}), Check("short", 1, lambda lab: {"ms": 2})
    assert list(benchmark(monkeypatch, tmp_path / "gpu.json", *checks)) == ["short"]
    assert "no time was left for: long" in capsys.readouterr().out
    lab = gpu.Lab(gpu.torch.device("cpu"), True, tmp_path)
    assert gpu._attempt(slow, lab, 0.1)["error"].startswith("TimeoutError")


def test_what_no_check_is_called_and_a_missing_set5_are_refused_before_anything_is_measured(tmp_path):
    command = ["benchmark", "gpu", "--device", "cpu", "--toy", "--output", str(tmp_path / "gpu.json")]
    with pytest.raises(ConfigError, match=r"--only tpyo: expected a part of output parity, PSNR x2, .* more"):
        main([*command, "--only", "tpyo"])
    with pytest.raises(MissingInputError, match="nodir: no such folder"):
        main([*command, "--data-path", str(tmp_path / "nodir")])
    assert not list(tmp_path.iterdir())


def test_figures_of_another_machine_are_not_mixed_in(tmp_path, monkeypatch):
    output = tmp_path / "gpu.json"
    for text in ('{"device": "NVIDIA H200", "checks": {}}', "no JSON"):
        output.write_text(text)
        with pytest.raises(OutputError, match="another machine"):
            benchmark(monkeypatch, output)
        assert output.read_text() == text

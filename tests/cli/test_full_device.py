"""How commands end as processes: one line and an exit code, also where the output cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("score", "--help"), ("benchmark", "complexity", "--config", "configs/quickstart.yml")],
    ids=" ".join,
)
def test_a_full_device_is_one_line_and_74(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ssiu", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    message = "error: cannot write the output of this command: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, message)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("-m ssiu --help", 0),
        ("test.py --config absent.yml", 66),
        ("-m ssiu upscale image.png --output {0}/out.png --scale 2 --weights pretrain_model/SSIU_x2.safetensors", 0),
    ],
    ids=["help", "error", "work"],
)
def test_a_closed_stream_changes_nothing_else(closed: str, arguments: str, code: int, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "image.png")
    command = f"{sys.executable} {arguments.format(tmp_path).replace('image.png', str(tmp_path / 'image.png'))}"
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code and "Traceback" not in done.stderr
    if "upscale" in arguments:
        with Image.open(tmp_path / "out.png") as larger:
            assert larger.size == (32, 32)


def test_an_error_stays_the_error_on_a_full_device() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "test.py", "--config", "absent.yml"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 66 and done.stderr.count("\n") == 1 and "absent.yml" in done.stderr


def test_a_reader_that_left_is_no_error() -> None:
    command = f"{sys.executable} -m ssiu --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 141) and done.stderr == ""


@pytest.mark.parametrize("script", [["train.py"], ["test.py"], ["-m", "ssiu", "train"]], ids=" ".join)
def test_ctrl_c_while_torch_is_loaded_is_one_line(script: list[str], tmp_path: Path) -> None:
    again = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a job in the background ignores it
    (tmp_path / "torch.py").write_text(f"import os, signal\n{again}\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [sys.executable, *script, "--config", "configs/quickstart.yml"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_script_is_the_command_of_its_name(name: str) -> None:
    both = [[sys.executable, f"{name}.py", "--help"], [sys.executable, "-m", "ssiu", name, "--help"]]
    texts = [subprocess.check_output(command, cwd=ROOT, text=True, timeout=120) for command in both]
    assert texts[0] == texts[1] and texts[0].startswith(f"usage: ssiu {name} [-h] --config CONFIG")


def test_a_name_too_long_on_the_command_line_is_one_line() -> None:
    command = [sys.executable, "train.py", "--config", "configs/quickstart.yml", "--resume", "n" * 300]
    done = subprocess.run(
        [*command, "data_path=/nowhere", "log_path=/dev/null/x"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 73 and done.stderr.count("\n") == 1
    done = subprocess.run([sys.executable, "test.py", "--config", "n" * 300], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 66 and done.stderr.count("\n") == 1 and "File name too long" in done.stderr

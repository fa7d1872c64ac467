"""The shell scripts, run with a stand-in for Python that notes how it was called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ssiu.images.io import save_image

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ("-c", "set -euo pipefail; source scripts/environment.sh; environment")
STAGES = ("SSIU_x2", "SSIU_x3", "SSIU_x4")

PYTHON = """#!/bin/bash
# train.py writes the run's name into its last.pt, export copies it; the FAIL_AT-th training fails
echo "$*" >>calls
case "$*" in
    train.py*) [ "$(grep -c ^train.py calls)" -eq "${FAIL_AT:-0}" ] && exit 75
        run=$(basename "$3" .yml); mkdir -p "pretrain/$run/models"; echo "$run" >"pretrain/$run/models/last.pt" ;;
    *export*) cp "$5" "$6" ;;
    "-c import torch") exit "${NO_TORCH:-1}" ;;
esac
exit 0
"""


def make(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the scripts see of a clone, with weights that were shipped."""
    shutil.copytree(ROOT / "scripts", tmp_path / "clone/scripts")
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "clone")
    for scale in (2, 3, 4):
        make(tmp_path / f"clone/pretrain_model/SSIU_x{scale}.safetensors", "shipped")
    make(tmp_path / "photos/a.png", "")
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "basename", "cat", "cksum", "cp", "dirname", "env", "grep", "mkdir", "realpath"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))  # and no nvidia-smi, whatever machine this is
    return tmp_path / "clone"


def run(clone: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{clone.parent}/bin", **variables}
    command = (shutil.which("bash"), *command)
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=60)


def shipped(clone: Path) -> list[str]:
    return [(clone / f"pretrain_model/SSIU_x{scale}.safetensors").read_text().strip() for scale in (2, 3, 4)]


def test_pretraining_replaces_the_shipped_weights_once_when_all_runs_are_through(clone: Path) -> None:
    make(clone.parent / "bin/python", PYTHON)
    for stage in range(1, len(STAGES) + 1):
        (clone / "calls").unlink(missing_ok=True)
        assert run(clone, "scripts/pretrain.sh", str(clone.parent / "photos"), FAIL_AT=str(stage)).returncode == 75
        assert shipped(clone) == ["shipped"] * 3, f"after {stage - 1} runs"
    (clone / "calls").unlink()
    assert run(clone, "scripts/pretrain.sh", str(clone.parent / "photos")).returncode == 0
    assert shipped(clone) == list(STAGES)
    trained = [line.split()[2] for line in (clone / "calls").read_text().splitlines() if line.startswith("train.py")]
    assert trained == [f"configs/pretrain/{name}.yml" for name in STAGES]


def test_pretraining_again_with_one_more_photograph_leaves_the_split_and_the_photographs_alone(clone: Path) -> None:
    prepares = f'case "$*" in *prepare*) exec env PYTHONPATH={ROOT} {sys.executable} "$@" ;; esac\nexit 75\n'
    make(clone.parent / "bin/python", f"#!/bin/bash\n{prepares}")
    photos, data = clone.parent / "many", clone / "pretrain/data"
    (photos / "sub").mkdir(parents=True)
    sets = []
    for names in (range(10, 80), (0,)):  # the new one comes first
        for name in names:
            save_image(photos / f"{name:02}.png", np.full((12, 16, 3), name, np.uint8))
        assert run(clone, "scripts/pretrain.sh", str(photos)).returncode == 75, "when the training begins"
        sets.append([{path.name for path in (data / name / "HR").iterdir()} for name in ("photos", "photos_val")])
    assert len(sets[0][0]) == 50 and len(sets[0][1]) == 20 and not sets[0][0] & sets[0][1]
    assert sets[1] == [sets[0][0] | {"00.png"}, sets[0][1]]
    assert not list((photos / "sub").iterdir())


def test_every_stage_starts_from_a_run_before_it_and_none_from_what_is_shipped() -> None:
    configs = {name: yaml.safe_load((ROOT / f"configs/pretrain/{name}.yml").read_text()) for name in STAGES}
    assert {path.stem for path in (ROOT / "configs/pretrain").glob("SSIU_*.yml")} == configs.keys()
    done: set[str] = set()
    for name, config in configs.items():
        start = config.get("pretrain") or config.get("init_trunk")
        assert start is None or start in done, name
        done.add(f"{config['log_path'].removeprefix('./')}/{config['log_name']}/models/last.pt")


@pytest.mark.parametrize(
    ("gpu", "no_torch", "told"), [(False, "1", True), (False, "0", False), (True, "1", False)], ids=str
)
def test_the_environment_says_in_one_line_how_to_get_the_small_torch(
    clone: Path, gpu: bool, no_torch: str, told: bool
) -> None:
    make(clone / ".venv/bin/python", PYTHON)
    make(clone / ".venv/bin/activate", f"PATH={clone}/.venv/bin:$PATH\n")
    make(clone.parent / "bin/python3", "#!/bin/sh\nexit 0\n")
    make(clone.parent / "bin/uname", "#!/bin/sh\necho Linux\n")
    if gpu:
        make(clone.parent / "bin/nvidia-smi", "#!/bin/sh\n")
    done = run(clone, *ENVIRONMENT, NO_TORCH=no_torch)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == (1 if told else 0), done.stderr
    pin = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch=="))
    hint = f".venv/bin/pip install {pin} --index-url https://download.pytorch.org/whl/cpu"
    assert (hint in done.stderr) == told
    assert run(clone, *ENVIRONMENT, NO_TORCH=no_torch).stderr == "", "installed already"


def test_an_environment_whose_making_was_interrupted_is_made_whole(clone: Path) -> None:
    make(clone / ".venv/bin/python", PYTHON)
    activate = 'if [ "$1" = -m ]; then echo "PATH=$PWD/$3/bin:\\$PATH" >"$3/bin/activate"; fi\n'
    make(clone.parent / "bin/python3", f"#!/bin/bash\n{activate}")
    make(clone.parent / "bin/uname", "#!/bin/sh\necho Linux\n")
    done = run(clone, *ENVIRONMENT, NO_TORCH="0")
    assert done.returncode == 0, done.stderr
    assert "pip install" in (clone / "calls").read_text()


def test_a_job_of_a_study_makes_one_run_of_it(clone: Path) -> None:
    make(clone.parent / "bin/srun", '#!/bin/bash\necho "$*" >>calls\n')
    done = run(clone, "scripts/slurm_study.sh", "my study.yml", "lr=5e-4", SLURM_ARRAY_TASK_ID="2")
    assert done.returncode == 0, done.stderr
    assert (clone / "calls").read_text() == "python -m ssiu study my study.yml lr=5e-4 --only 2\n"
    refused = run(clone, "scripts/slurm_study.sh", "study.yml")
    assert refused.returncode != 0 and "sbatch --array=1-N scripts/slurm_study.sh STUDY.yml" in refused.stderr

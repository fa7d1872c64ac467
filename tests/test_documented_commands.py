"""The fenced commands of README and docs, read from the Markdown: all have the options they name, most are run here.

A page is run as it stands, offline and on small data, in a folder of its own that looks like a clone. A block that
begins with ``# NAME.py`` or ``# NAME.yml`` is that file; another Python block is run.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from small_sets import photo, write_set
from toy_sets import write_pairs

from ssiu.cli import COMMANDS, main
from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.images.io import save_image
from ssiu.models import build_model
from ssiu.weights.formats import save_authors_weights

ROOT = Path(__file__).parents[1]
NOT_RUN = {
    "needs a network": r"ssiu (download|reproduce)\b|git clone\b|.*pip install\b",
    "makes an environment": r"bash scripts/\w+|python3 -m venv",
    "needs several processes": r"torchrun\b|sbatch\b",
    "does not end": r"tensorboard\b|.*--serve\b",
    "needs whole data sets": r"ssiu check data\b",
    "takes minutes": r"ssiu (quickstart|study|benchmark (inference|train|data|gpu))\b",
    "needs files of others": r".*\b(DIV2K|Flickr2K|LSDIR\w*|DIV8K\w*|manga109|OTHER_x2|IMDN_x4|their\w*)\b",
}
STANDS_FOR = {
    "YOUR_DATA": "data", "DATA": "data", "IMAGES": "holiday", "OUT": "larger", "my_weights.pt": "model_x4_290.pt",
    "SR_FOLDER": "data/benchmark/Set5/HR", "HR_FOLDER": "data/benchmark/Set5/HR",
}  # fmt: skip
SHORT = ["max_iterations=2", "batch_size=2", "patch_size=32", "threads=0", "save_every=1", "validate_every=2"]
SHORT += ["eval_sets=[]", "warmup_epochs=0", "device=cpu"]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
RUN = ["README.md", "docs/data.md", "docs/own_data.md", "docs/own_model.md"]


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """One a line, without comments, continued lines joined."""
    text = "".join(text for language, text in blocks(page) if language == "bash").replace("\\\n", " ")
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def reason(command: str) -> str | None:
    return next((why for why, pattern in NOT_RUN.items() if re.match(pattern, command)), None)


def arguments(command: str) -> list[str] | None:
    """Those of ``ssiu``, or None for another program."""
    words = shlex.split(command)
    for start, instead in ((["ssiu"], []), (["python", "train.py"], ["train"]), (["python", "test.py"], ["test"])):
        if words[: len(start)] == start:
            return instead + words[len(start) :]
    return None


def run(command: str) -> None:
    words: list[str] = []
    for word in arguments(command) or ():
        found = sorted(map(str, Path().glob(word))) if "*" in word and f"'{word}'" not in command else []
        key, equals, value = word.rpartition("=")
        words += found or [key + equals + STANDS_FOR.get(value, value)]
    assert words, f"neither run nor in NOT_RUN: {command}"
    if words[0] == "train" and "--list-keys" not in words:
        words += SHORT + ([] if "own_photos" in command else ["training_dataset=photos"])
    assert not main(words), command


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone with small data, photographs and the authors' weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = tmp_path / "clone"
    for folder in ("pretrain_model", "PHOTOS", "holiday", "scans/1"):
        (home / folder).mkdir(parents=True)
    for name in ("configs", "docs"):
        (home / name).symlink_to(ROOT / name)
    for path in (ROOT / "pretrain_model").iterdir():
        (home / "pretrain_model" / path.name).symlink_to(path)
    for scale in (2, 3, 4):
        network = build_model(make_config({"scale": scale}))
        save_authors_weights(home / f"pretrain_model/model_x{scale}_290.pt", network)
        for name in ("Set5", "Set14", "B100", "Urban100", "Manga109"):
            write_set(home / "data", name, scale, {"a": photo("chelsea", 48, 48)})
    (home / "model_x4_290.pt").symlink_to("pretrain_model/model_x4_290.pt")
    write_pairs(home / "data/photos", {f"p{i}": photo("coffee", 64, 64) for i in range(4)}, 2)
    noise = np.random.default_rng(0)
    for index in range(24):
        save_image(home / f"PHOTOS/{index}.png", noise.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("photo.jpg", "holiday/a.jpg", "scans/1/b.tif", "image.png"):
        save_image(home / name, photo("astronaut", 24, 32))
    for language, text in blocks("docs/own_model.md"):
        if language == "python" and text.startswith("# my_net.py"):
            (home / "my_net.py").write_text(text)
    monkeypatch.chdir(home)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_as_they_stand(page: str, clone: Path) -> None:
    for language, text in blocks(page):
        if name := re.match(r"# (\w+\.(py|yml))\b", text):
            (clone / name[1]).write_text(text)
        elif language == "python":
            exec(compile(text, page, "exec"), {})
    for command in commands(page):
        if not reason(command):
            run(command)


def test_every_command_of_every_page_has_the_options_and_keys_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set(Config.model_fields) | {field.alias for field in Config.model_fields.values()}
    helps: dict[tuple[str, ...], str] = {}
    every = [(page, command, found) for page in PAGES for command in commands(page) if (found := arguments(command))]
    assert len(every) > 60
    for page, command, (name, *words) in every:
        assert name in COMMANDS, f"{page}: {command}"
        path = (name, words[0]) if name in ("benchmark", "export", "figures") else (name,)
        if path not in helps:
            with pytest.raises(SystemExit, match="0"):
                main([*path, "--help"])
            helps[path] = capsys.readouterr().out
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word.partition('=')[0])}\b", helps[path]), f"{page}: {command}: {word}"
            elif name in ("train", "test") and re.match(r"\w+=", word):
                assert word.partition("=")[0] in keys, f"{page}: {command}: {word}"


def test_what_is_not_run_has_a_reason_and_every_reason_is_needed() -> None:
    every = [command for page in RUN for command in commands(page)]
    assert sum(not reason(command) for command in every) > 20
    assert {reason(command) for command in every} - {None} == NOT_RUN.keys()

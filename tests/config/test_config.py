"""Config files and command lines: what is read, what wins, and how a mistake is named."""

import json
import os
from pathlib import Path

import pytest

from ssiu.config.changes import FREE_ON_RESUME
from ssiu.config.load import load_config, make_config
from ssiu.config.schema import Config
from ssiu.errors import ConfigError, MissingInputError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted({*ROOT.glob("configs/**/*.yml")} - {*ROOT.glob("configs/studies/*.yml")})


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    load_config(path)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_paper_configs_hold_the_papers_recipe(scale):
    config = load_config(ROOT / f"configs/SSUFSR_light_x{scale}.yml")
    assert config.patch_size == 64 * scale
    assert (config.epochs, config.batch_size, config.data_repeat) == (290, 40, 40)
    assert (config.lr, config.eta_min, config.betas, config.weight_decay) == (1e-3, 1e-6, (0.9, 0.99), 1e-4)
    assert (config.lambda_l1, config.lambda_fft, config.n_feats, config.n_blocks) == (1.0, 0.01, 64, 9)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patches_are_the_papers_where_nothing_is_said(scale):
    assert make_config({"scale": scale}).patch_size == 64 * scale


RELEASED_STYLE = """\
model: 'SSUFSR'
scale: 2
rgb_range: 1.0
colors: 3
n_feats: 64
num_heads: 4
n_blocks: 9
pretrain:
patch_size: 128
batch_size: 40
data_repeat: 40
data_augment: 1
epochs: 290
lr: 1.0e-3
warmup_epochs: 0
eta_min: 1.0e-6
decays: [250, 400, 450, 475, 495]
gamma: 0.5
log_every: 100
test_every: 1
log_path: "./experiments"
log_name:
lambda_l1: 1.0
lambda_fft: 0.01
gpu_ids: [1]
threads: 8
save_image: true
data_path: '/data/sr'
training_dataset: 'div2k'
eval_sets: ["Set5", "Set14", "B100", "Urban100", "Manga109"]
"""


def test_a_config_in_the_released_style_runs_unchanged(tmp_path):
    config = load_config(write(tmp_path, RELEASED_STYLE))
    assert config.pretrain is None and config.log_name is None
    assert config.gpu_ids == [1] and config.data_augment is True and config.training_dataset == "div2k"
    assert config.run_name == "SSUFSR_x2"


def test_command_line_wins_over_file(tmp_path):
    path = write(tmp_path, "lr: 1e-3\neval_sets: [Set5]")
    config = load_config(path, ["lr=5e-4", "eval_sets=[Set14,B100]", "pretrain=a.pt", "eta_min=0"])
    assert (config.lr, config.eval_sets, config.pretrain) == (5e-4, ["Set14", "B100"], "a.pt")
    assert load_config(path, ["eval_sets=Set14"]).eval_sets == ["Set14"]
    assert load_config(path, ["eval_sets=[]"]).eval_sets == []


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1.0e-3", 1e-3), ("1E-3", 1e-3), ("1", 1.0), ("+.5", 0.5), ("2.", 2.0)]
)
def test_numbers_are_read_as_people_write_them(tmp_path, text, value):
    assert load_config(write(tmp_path, f"lr: {text}")).lr == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lrr: 1", "unknown key 'lrr'; did you mean 'lr'?"),
        ("batchsize: 1", "did you mean 'batch_size'?"),
        ("lerning_rate: 1", "did you mean 'lr'?"),
        ("lr: abc", "'lr'.*abc"),
        ("lr: 0", "'lr'.*greater than 0"),
        ("lr: -1", "'lr'.*greater than 0"),
        ("lr: .nan", "'lr'"),
        ("lr: .inf", "'lr'"),
        ("lr: 1e999", "'lr'"),
        ("lr: '1'", "'lr'"),
        ("lr: true", "'lr'"),
        ("n_feats: 64.0", "'n_feats'"),
        ("n_feats: 010", "'n_feats'.*010"),
        ("moe: no", "'moe'.*no"),
        ("scale: 5", "'scale'.*2, 3 or 4"),
        ("rgb_range: 255", "'rgb_range'.*1.0"),
        ("colors: 1", "'colors'.*3"),
        ("lr: 1\nlr: 2", "line 2.*'lr' is given twice"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("model: !!python/object/apply:os.system ['true']", "tag"),
        ("- lr", "key: value"),
        ("lr: [", "not a readable YAML"),
        ("compile: !!bool maybe", "not a readable YAML"),
        ("lr: !!timestamp x", "not a readable YAML"),
        ("1: 2", "not a name"),
        ("log_name: ../x", "'log_name'.*plain folder name"),
        ("log_name: a/b", "'log_name'"),
        ("log_name: ''", "'log_name'"),
        ("eval_sets: [Set5, Set5]", "'eval_sets'"),
        ("eval_sets: ['../x']", "'eval_sets'"),
        ("betas: [0.9, 1.0]", "'betas'"),
        *(
            (f"betas: {value}", "'betas': expected two numbers in .0, 1., got ")
            for value in ("[0.9]", "[]", "[0.9, 0.99, 0.999]", "0.9", "[a, 0.9]", "[0.9, true]", "{a: 1}", "~")
        ),
        ("decays: [3, 2]", "'decays'.*rising"),
        ("patch_size: 255", "patch_size 255 is not a multiple of scale 4"),
        ("num_heads: 7", "n_feats 64 is not a multiple of num_heads 7"),
        ("eta_min: 1", "eta_min 1.0 is larger than lr"),
        ("warmup_epochs: 290", "warmup_epochs 290 leaves nothing"),
        ("scheduler: multistep", "needs either decays"),
        ("scheduler: multistep\ndecays: [1]\nmilestones: [1]", "needs either decays"),
        ("milestones: [1]", "milestones are for scheduler multistep, not cosine"),
        ("scheduler: multistep\nmilestones: [2, 1]", "'milestones'.*in their order"),
        ("scheduler: restarts", "needs periods"),
        ("scheduler: restarts\nperiods: [0]", "'periods'.*greater than or equal to 1"),
        ("scheduler: restarts\nperiods: [5, 5]\nrestart_weights: [1]", "a restart_weight for each"),
        ("warmup_epochs: 1\nwarmup_iterations: 1", "give one"),
        ("lambda_l1: 0\nlambda_fft: 0", "nothing to minimise"),
        ("pretrain: a\ninit_trunk: b", "give one"),
        ("validation_set: Set5", "never select on a test set"),
        ("validation_set: set5", "never select on a test set"),
        ("eval_sets: [Set5, set5]", "'eval_sets'.*every set once"),
        ("validate_every: 0", "'validate_every'.*greater than or equal to 1"),
        ("tile: -1", "'tile'"),
        ("tile: x", "key 'tile': expected 'auto' or a valid integer, got 'x'$"),
        ("compile: x", "key 'compile': expected a valid boolean or 'reduce-overhead' or 'max-autotune', got 'x'$"),
        ("share_group: 1.5", "key 'share_group': expected 'none' or a valid integer, got 1.5$"),
        ("decays: [a, b]", "'decays': expected a valid integer, got 'a'; key 'decays': .* got 'b'$"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(write(tmp_path, text))
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value) and "config.yml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "model: IDSANet\nattention: dense\nmoe: false",
            r"model IDSANet.*attention=dense \(a key of SSIU\), moe=False",
        ),
        ("model: IDSANet\nn_feats: 64\nbeta_sign: plus", r"model IDSANet does not take beta_sign=plus"),
        ("model: IDSANet\nskip: raw", "skip=raw"),
        ("model: SSIU\nshare_group: none", r"model SSIU does not take share_group=none \(a key of IDSANet\)"),
        ("share_group: 3", "share_group=3"),
        ("model: SSUFSR\nsmu: none", "model SSUFSR does not take smu=none"),
        ("purification: none\nhybrid_attention: none", "purification=none .*hybrid_attention=none"),
    ],
)
def test_a_key_of_another_model_is_a_mistake_not_a_wrong_row_of_a_table(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(write(tmp_path, text))
    assert caught.value.exit_code == 78 and "remove it or change model" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "model: IDSANet\nattention: sparse\nmoe: 1\nshare_group: none\nsmu: none\nn_blocks: 3\nnum_heads: 2",
        "model: IDSANet\npurification: none\nhybrid_attention: none",
        "model: SSUFSR\nattention: dense\nmoe: false\nbeta_sign: plus\nskip: raw\nshare_group: 0\nn_blocks: 6",
    ],
)
def test_a_model_takes_its_own_keys_and_the_defaults_of_others(tmp_path, text):
    config = load_config(write(tmp_path, text))
    assert load_config(write(tmp_path, config.to_yaml())) == config, "what stands in a run's folder"


PATHS = ["data_path", "log_path", "cache_dir", "pretrain", "init_trunk"]
FOLDERS = ["log_name", "training_dataset", "validation_set", "eval_sets"]


@pytest.mark.parametrize("key", PATHS + FOLDERS)
@pytest.mark.parametrize(
    ("value", "named"),
    [("a\0b", "UTF-8 without control characters"), ("a\nb", "control"), ("a\x85b", "control"),
     ("caf\udce9", "(UTF-8|unicode string)"), ("n" * 256, "at most 255 bytes"),
     ("\u00e9" * 128, "at most 255 bytes")],
    ids=["NUL", "newline", "NEL", "surrogate", "long", "long in bytes"],
)  # fmt: skip
def test_what_no_file_can_be_called_is_refused_as_a_key(tmp_path, key, value, named):
    for place in ("file", "command line"):
        yaml_text = f"{key}: {json.dumps(value)}"
        with pytest.raises(ConfigError, match=f"'{key}'.*{named}") as caught:
            load_config(write(tmp_path, yaml_text if place == "file" else ""), [] if place == "file" else [
                yaml_text.replace(": ", "=", 1)
            ])  # fmt: skip
        str(caught.value).encode()


@pytest.mark.parametrize("key", PATHS)
def test_long_paths_of_short_names_are_paths(key):
    path = "/".join(["\u00e9" * 127] * 4)
    assert getattr(make_config({key: path}), key) == path


def test_a_config_whose_name_is_too_long_is_not_there():
    with pytest.raises(MissingInputError, match="File name too long"):
        load_config("n" * 300)


def test_all_bad_keys_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"'scale'.*'lr'"):
        load_config(write(tmp_path, "scale: 7\nlr: x"))


@pytest.mark.parametrize("override", ["lr", "lrr=1", "lr=abc", "=3", "lr=[", "", "a\nb", "l\nr=1", "lr=a\nb", "lr=[\n"])
def test_a_bad_override_is_named_in_one_line(tmp_path, override):
    with pytest.raises(ConfigError, match="command line") as caught:
        load_config(write(tmp_path, ""), [override])
    assert "\n" not in str(caught.value)


def test_missing_binary_and_huge_files_are_named(tmp_path):
    with pytest.raises(MissingInputError, match="nowhere"):
        load_config(tmp_path / "nowhere.yml")
    (tmp_path / "x.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        load_config(tmp_path / "x.yml")
    (tmp_path / "y.yml").write_text("# \n" * 500_000)
    with pytest.raises(ConfigError, match="too much for a config file"):
        load_config(tmp_path / "y.yml")


def test_an_alias_bomb_and_deep_nesting_are_refused_quickly(tmp_path):
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    for text in (bomb, "[" * 100_000):
        with pytest.raises(ConfigError):
            load_config(write(tmp_path, text))


def test_the_resolved_config_reads_back_equal(tmp_path):
    config = make_config({"scale": 3, "patch_size": 48, "decays": [2, 5], "scheduler": "multistep", "tile": "auto"})
    assert load_config(write(tmp_path, config.to_yaml())) == config


@pytest.mark.parametrize(
    "name",
    ["1e-3", "1e4", "12e5", "1.5e3", ".5e3", "1.e5", "+1e3", "-1e3", "1_0", "0x1f", "010", "yes", "on", "1:30",
     "2024-01-01", "null", "~", "=", "<<", "true", "5", "- a", "# a", "{", "'", " a ",
     "a\u2028b", "\ufeff", "\U0001f600", "a: b"],
)  # fmt: skip
def test_a_name_that_looks_like_something_else_is_read_back_as_a_name(tmp_path, name):
    config = make_config({"log_name": name, "model": "a:B", "n_blocks": 1, "model_args": {"0": name, name: [name]}})
    assert load_config(write(tmp_path, config.to_yaml())) == config


def test_every_key_is_documented_and_free_keys_exist():
    assert all(field.description for field in Config.model_fields.values())
    assert set(Config.model_fields) >= FREE_ON_RESUME


def test_a_shipped_config_is_found_by_name_and_a_file_or_folder_here_is_not_in_its_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # what the quickstart itself makes
    assert load_config("quickstart").n_feats == 32
    assert load_config("configs/pretrain/SSIU_x4.yml").optimizer == "muon"
    (tmp_path / "quickstart.yml").write_text("n_feats: 16\n")
    assert load_config("quickstart.yml").n_feats == 16
    with pytest.raises(MissingInputError, match=r"\.\./quickstart"):
        load_config("../quickstart")


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_that_names_no_file_is_a_line(path: str) -> None:
    with pytest.raises(MissingInputError, match="expected a YAML config"):
        load_config(path)


def test_the_home_folder_may_be_written_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = make_config({"log_path": "~/logs", "data_path": "~/data", "cache_dir": "a/~b"})
    assert (config.log_path, config.data_path, config.cache_dir) == ("/home/me/logs", "/home/me/data", "a/~b")


NUMBERS = ["291", "1e5", "1.5", "true", "0x10"]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_text_key_takes_what_was_typed(tmp_path: Path, name: str) -> None:
    keys = ("training_dataset", "log_name", "log_path", "data_path", "pretrain", "cache_dir", "validation_set")
    for key in keys:
        written = load_config(write(tmp_path, f"{key}: {name}\n"))
        given = load_config(write(tmp_path, ""), [f"{key}={name}"])
        assert getattr(written, key) == getattr(given, key) == name
    written = load_config(write(tmp_path, f"eval_sets: [{name}, Set5]\n"))
    assert written.eval_sets == load_config(write(tmp_path, ""), [f"eval_sets=[{name},Set5]"]).eval_sets
    assert written.eval_sets == [name, "Set5"]
    assert load_config(write(tmp_path, ""), [f"eval_sets={name}"]).eval_sets == [name]


@pytest.mark.parametrize("text", ["a #x", "a: b", "- a", "*a", "&a", "!a", "a,b", "%a"])
def test_a_path_on_the_command_line_is_not_read_as_yaml(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, ""), [f"log_path={text}"])
    assert config.log_path == text
    assert load_config(write(tmp_path, config.to_yaml())).log_path == text


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_a_text_key_may_be_emptied_on_the_command_line(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, "pretrain: a.pt\n"), [f"pretrain={text}"]).pretrain is None


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "fifo", "folder"])
def test_only_a_file_is_read_as_a_config(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingInputError, match="expected a YAML config"):
        load_config(tmp_path / path)


def test_a_number_of_thousands_of_digits_is_a_mistake_of_its_key(tmp_path: Path) -> None:
    for text in ("9" * 5000, "-" + "9" * 5000):
        with pytest.raises(ConfigError, match=r"key 'seed': expected .* got '-?9{50}"):
            load_config(write(tmp_path, f"seed: {text}\n"))


def test_an_override_is_one_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected seed=value"):
        load_config(write(tmp_path, ""), ["seed=1\nlr: 2"])

"""Option files of BasicSR as configs: every line is accounted for, and what is carried means what it meant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssiu.cli import adopt as command
from ssiu.config.basicsr.adopt import Adopted, adopt
from ssiu.config.load import load_config
from ssiu.errors import ConfigError, MissingInputError, OutputError

FROM_SCRATCH = """
name: Plain_x4  # one GPU, steps, the usual test sets
model_type: SRModel
scale: 4
num_gpu: 1
manual_seed: 10
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: datasets/DIV2K/HR_sub
    dataroot_lq: datasets/DIV2K/X4_sub
    meta_info_file: meta/DIV2K_sub.txt
    filename_tmpl: '{}x4'
    io_backend:
      type: disk
    gt_size: 192
    use_hflip: true
    use_rot: true
    use_shuffle: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 16
    dataset_enlarge_ratio: 100
    prefetch_mode: cuda
    pin_memory: true
  val:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: datasets/benchmark/Set5/HR
    dataroot_lq: datasets/benchmark/Set5/LR_bicubic/X4
    filename_tmpl: '{}x4'
    io_backend: {type: disk}
  val_2:
    name: Urban
    type: PairedImageDataset
    dataroot_gt: datasets/Urban100/GTmod12
    dataroot_lq: datasets/Urban100/LRbicx4
    io_backend: {type: disk}
network_g:
  type: PlainNet
  upscale: 4
  width: 48
  img_range: 1.
  depths: [6, 6]
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~
train:
  ema_decay: 0.999
  optim_g:
    type: Adam
    lr: !!float 2e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    type: MultiStepLR
    milestones: [250000, 400000]
    gamma: 0.5
  total_iter: 500000
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 5e3
  save_img: false
  pbar: false
  metrics:
    psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: true, better: higher}
logger:
  print_freq: 200
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {project: ~, resume_id: ~}
dist_params:
  backend: nccl
  port: 29500
"""
ON_EIGHT_GPUS = """
name: runs/Cosine_x3  # restarts, an average, two losses, several folders, LMDB
model_type: OurModel
scale: 3
num_gpu: 8
find_unused_parameters: true
datasets:
  train:
    task: SR
    type: OurDataset
    dataroot_gt: [/data/DIV2K.lmdb, /data/Flickr2K.lmdb]
    dataroot_lq: [/data/DIV2K_X3.lmdb, /data/Flickr2K_X3.lmdb]
    io_backend: {type: lmdb}
    gt_size: 144
    use_hflip: true
    use_rot: false
    batch_size_per_gpu: 4
  val_1:
    name: Own
    type: PairedImageDataset
    dataroot_gt: /elsewhere/validation
    dataroot_lq: ~
network_g: {type: Cosine, scale: 3, act: {type: gelu}}
path: {pretrain_network_g: weights/x2.pth, strict_load_g: false, param_key_g: params_ema, resume_state: 5.state}
train:
  ema_decay: 0
  optim_g: {type: Adan, lr: 0.001, betas: [0.98, 0.92, 0.99], foreach: true}
  scheduler: {type: CosineAnnealingRestartLR, periods: [60, 40], restart_weights: [1, 0.5], eta_min: !!float 1e-7}
  total_iter: 100
  warmup_iter: 10
  use_grad_clip: true
  pixel_opt: {type: CharbonnierLoss, loss_weight: 2, reduction: sum, eps: !!float 1e-6}
  fft_opt: {type: FFTLoss, loss_weight: 0.05}
  perceptual_opt: {type: PerceptualLoss, layer_weights: {conv5_4: 1}}
val:
  val_freq: 10
  metrics:
    psnr: {type: calculate_psnr, crop_border: 0, test_y_channel: false}
    niqe: {type: calculate_niqe, crop_border: 0}
logger: {print_freq: 1, save_checkpoint_freq: 10, use_tb_logger: false, wandb: {project: mine}}
"""
WARMED_UP = """
name: Warm_x2  # a warm-up before steps, weights of another scale's run, SGD's relative
scale: 2
num_gpu: auto
datasets:
  train: {type: PairedImageDataset, dataroot_gt: [hr], dataroot_lq: ~, gt_size: 128, batch_size_per_gpu: 32}
network_g: {type: Warm}
path: {pretrain_network_g: x2.pth}
train:
  optim_g: {type: AdamW, lr: 0.5, eps: 0.001}
  scheduler: {type: MultiStepLR, milestones: [2, 20, 20]}
  total_iter: 40
  warmup_iter: 5
  pixel_opt: {type: MSELoss}
"""
FOR_TESTING = """
name: Test_x2
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: ~
datasets:
  test_1: {name: Set5, type: PairedImageDataset, dataroot_gt: d/Set5/HR, dataroot_lq: d/Set5/LR_bicubic/X2}
  test_2: {name: Set14, type: PairedImageDataset, dataroot_gt: d/Set14/HR, dataroot_lq: d/Set14/LR_bicubic/X2}
  test_3: {name: B100, type: PairedImageDataset, dataroot_gt: e/B100/HR, dataroot_lq: e/B100/LR_bicubic/X2}
network_g: {type: Net, sf: 2}
path: {pretrain_network_g: net_g_latest.pth, strict_load_g: false}
val: {save_img: true, suffix: ~}
"""
STEPS = "type: MultiStepLR\n    milestones: [250000, 400000]\n    gamma: 0.5"
KINDS = {"scratch": FROM_SCRATCH, "eight_gpus": ON_EIGHT_GPUS, "warmed_up": WARMED_UP, "testing": FOR_TESTING}


def adopted(folder: Path, text: str, *changes: tuple[str, str]) -> Adopted:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "options.yml").write_text(text)
    (folder / "net_arch.py").touch()
    return adopt(folder / "options.yml", folder / "net_arch.py")


def keys_of(tree: Any, above: str = "") -> Iterator[str]:
    if isinstance(tree, dict) and tree and not above.startswith("network_g."):
        for name, value in tree.items():
            yield from keys_of(value, f"{above}.{name}" if above else name)
    else:
        yield above


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_is_accounted_for_and_the_config_says_which_were_not_carried(tmp_path: Path, kind: str) -> None:
    result = adopted(tmp_path, KINDS[kind])
    assert [line.key for line in result.lines] == list(keys_of(yaml.safe_load(KINDS[kind])))
    written = result.to_yaml()
    (tmp_path / "my.yml").write_text(written)
    config = load_config(tmp_path / "my.yml")
    assert {key: config.model_dump(mode="json")[key] for key in result.values} == result.values
    for line in result.lines:
        assert (f"# {line.outcome}: {line}" in written) == (line.outcome != "carried"), line


def test_a_plain_option_file_is_carried_whole(tmp_path: Path) -> None:
    result = adopted(tmp_path, FROM_SCRATCH)
    assert result.count("carried") == len(result.lines)
    assert result.values == {
        "log_name": "Plain_x4", "scale": 4, "seed": 10,
        "model": f"{tmp_path}/net_arch.py:PlainNet",
        "model_args": {"width": 48, "img_range": 1.0, "depths": [6, 6]},
        "hr_folder": "datasets/DIV2K/HR_sub", "lr_folder": "datasets/DIV2K/X4_sub", "image_list": "meta/DIV2K_sub.txt",
        "patch_size": 192, "data_augment": True, "threads": 6, "batch_size": 16, "data_repeat": 100,
        "data_path": "datasets", "eval_sets": ["Set5", "Urban100"],
        "ema_decay": 0.999, "ema_warmup": False,
        "optimizer": "adam", "lr": 2e-4, "weight_decay": 0.0, "betas": [0.9, 0.99],
        "scheduler": "multistep", "milestones": [250000, 400000], "gamma": 0.5, "max_iterations": 500000,
        "losses": {"l1": 1.0}, "validate_every": 5000, "save_image": False, "log_every": 200, "save_every": 5000,
    }  # fmt: skip


def test_what_is_said_otherwise_is_worked_out_and_named(tmp_path: Path) -> None:
    result = adopted(tmp_path, ON_EIGHT_GPUS)
    values, outcome = result.values, {line.key: (line.outcome, line.note) for line in result.lines}
    assert values["batch_size"] == 32 and outcome["datasets.train.batch_size_per_gpu"][0] == "changed"
    assert values["log_name"] == "runs_Cosine_x3"
    assert (values["hr_folder"], values["lr_folder"]) == (
        ["/data/DIV2K", "/data/Flickr2K"], ["/data/DIV2K_X3", "/data/Flickr2K_X3"],
    )  # fmt: skip
    assert (values["scheduler"], values["periods"], values["restart_weights"]) == ("restarts", [60, 40], [1.0, 0.5])
    assert (values["warmup_iterations"], values["eta_min"], values["data_augment"]) == (10, 1e-7, True)
    assert values["losses"] == {"charbonnier": {"weight": 2.0 * 4 * 3 * 144**2, "eps": 1e-3}, "fft": 0.05}
    assert (values["optimizer"], values["lr"]) == ("pytorch_optimizer:Adan", 1e-3)
    assert values["optimizer_args"] == {"betas": [0.98, 0.92, 0.99], "foreach": True}
    assert values["init_trunk"] == "weights/x2.pth" and "pretrain" not in values and "ema_decay" not in values
    assert values["model_args"] == {"act": {"type": "gelu"}} and values["eval_sets"] == []
    lost = {key for key, (kind, _) in outcome.items() if kind == "without counterpart"}
    assert lost == {
        *(f"datasets.val_1.{name}" for name in ("name", "type", "dataroot_gt", "dataroot_lq")),
        "path.resume_state", "train.use_grad_clip", "train.perceptual_opt.type",
        "train.perceptual_opt.layer_weights.conv5_4", "val.val_freq",
        *(f"val.metrics.niqe.{name}" for name in ("type", "crop_border")),
    }  # fmt: skip
    assert outcome["train.use_grad_clip"][1] == "not known here"
    assert values["tracker"] == "wandb" and outcome["logger.wandb.project"][0] == "changed"


def test_a_warmup_before_steps_ends_one_step_short_and_stays_there(tmp_path: Path) -> None:
    values = adopted(tmp_path, WARMED_UP).values
    assert (values["lr"], values["warmup_iterations"]) == (pytest.approx(0.5 * 4 / 5), 4)
    assert (values["milestones"], values["gamma"]) == ([20, 20], 0.1), "the step within the warm-up has no effect"
    assert values["optimizer"] == "torch.optim:AdamW" and values["optimizer_args"] == {"eps": 0.001}
    assert (values["hr_folder"], values["batch_size"], values["pretrain"]) == ("hr", 32, "x2.pth")


def test_an_option_file_for_testing_makes_a_config_for_testing(tmp_path: Path) -> None:
    values = adopted(tmp_path, FOR_TESTING).values
    assert (values["pretrain"], values["data_path"], values["eval_sets"]) == (
        "net_g_latest.pth",
        "d",
        ["Set5", "Set14"],
    )
    assert values["save_image"] is True and "max_iterations" not in values and "losses" not in values


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (STEPS, "type: CosineAnnealingLR\n    eta_min: 0",
         {"scheduler": "restarts", "periods": [500000], "eta_min": 0.0}),
        (STEPS, "type: CosineAnnealingLR\n    T_max: 200",
         {"scheduler": "restarts", "periods": [200], "eta_min": 0.0}),
        ("milestones: [250000, 400000]", "milestones: []", {"scheduler": "constant"}),
        ("milestones: [250000, 400000]", "milestones: [!!float 1e5]", {"milestones": [100000]}),
        ("type: Adam\n", "type: AdamW\n", {"optimizer": "adamw", "betas": [0.9, 0.99]}),
        ("type: Adam\n", "type: SGD\n", {"optimizer": "torch.optim:SGD"}),
        ("    betas: [0.9, 0.99]\n", "", {"betas": [0.9, 0.999]}),
        ("type: L1Loss", "type: CharbonnierLoss", {"losses": {"charbonnier": {"weight": 1.0, "eps": 1e-6}}}),
        ("use_hflip: true\n    use_rot: true", "use_hflip: false\n    use_rot: false", {"data_augment": False}),
        ("datasets/DIV2K/X4_sub", "~", {"hr_folder": "datasets/DIV2K/HR_sub"}),
        ("name: Plain_x4", "name: 2024", {"log_name": "2024"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_other_words_of_a_line_are_understood(tmp_path: Path, old: str, new: str, expected: dict[str, Any]) -> None:
    values = adopted(tmp_path, FROM_SCRATCH, (old, new)).values
    assert {key: values[key] for key in expected} == expected
    assert ("lr_folder" in values) == (new != "~")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale: 4\nnum_gpu", "scale: 1\nnum_gpu", "cannot be adopted: it upscales by 1"),
        ("scale: 4\nnum_gpu", "num_gpu", "it upscales by 1"),
        ("upscale: 4", "upscale: 2", "'network_g.upscale': expected the scale, 4, got 2"),
        ("gt_size: 192", "gt_size: 192\n    color: y", "it trains on luma alone"),
        ("gt_size: 192", "gt_size: 192\n    num_frame: 5", "it trains on video"),
        ("gt_size: 192", "gt_size: 192\n    kernel_list: [iso]", "it degrades images at random"),
        ("gt_size: 192", "gt_size: big", "'datasets.train.gt_size': expected a whole number, got 'big'"),
        ("gt_size: 192", "gt_size: 190", "as a config: .*patch_size 190 is not a multiple of scale 4"),
        ("\nnetwork_g:", "\nnetwork_d: {type: D}\nnetwork_g:", "it trains a second network"),
        ("  pixel_opt:", "  gan_opt: {type: GANLoss}\n  pixel_opt:", "it trains a second network"),
        ("type: L1Loss", "type: OwnLoss", "expected pixel_opt or fft_opt with one of L1Loss"),
        ("  pixel_opt:", "  fft_opt: {type: L1Loss}\n  pixel_opt:", "'train.pixel_opt' is a second L1Loss"),
        ("type: MultiStepLR", "type: ReduceLROnPlateau", "'train.scheduler.type': expected MultiStepLR, Cosine"),
        ("milestones: [250000, 400000]", "milestones: [a]", "'train.scheduler.milestones': expected a whole number"),
        ("lr: !!float 2e-4", "lr: ~", "'train.optim_g.lr': expected a number, got None"),
        (
            "type: Adam\n",
            "type: os.system\n",
            "'train.optim_g.type': expected the name of an optimizer, got 'os.system'",
        ),
        ("type: PlainNet", "type: a;b", "'network_g.type': expected the name of a class"),
        ("  total_iter: 500000\n", "", "'train': expected optim_g and total_iter"),
        ("use_hflip: true", "use_hflip: 1", "'datasets.train.use_hflip': expected true or false, got 1"),
        ("dataroot_gt: datasets/DIV2K/HR_sub", "dataroot_gt: ~", "'datasets.train.dataroot_gt' is not given"),
        ("dataroot_gt: datasets/DIV2K/HR_sub", "dataroot_gt: {a: b}", "'datasets.train.dataroot_gt' is not given"),
        ("manual_seed: 10", "manual_seed: -1", "as a config: key 'seed'"),
        ("name: Plain_x4", "name: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("name: Plain_x4", "name: a\nname: b", "line 3: .*'name' is given twice"),
        ("name: Plain_x4", "datasets.train.gt_size: 3", "'datasets.train.gt_size' is given twice"),
        ("\ntrain:\n", "\ntrain: 3\nold:\n", "'train': expected a section, got 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_adopted_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        adopted(tmp_path, FROM_SCRATCH, (old, new))
    assert "\n" not in str(caught.value) and "options.yml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "model: {name: edsr}\ntrain_dataset: {}\n", "- a\n", "#!/bin/sh\npython main.py --model EDSR --scale 2\n"],
    ids=["empty", "another's", "a list", "a script"],
)
def test_another_kind_of_file_is_named_as_such(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"network_g and datasets, got|expected 'key: value' lines|readable YAML"):
        adopted(tmp_path, text)


def test_the_file_of_the_network_is_found_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("options/train", "basicsr/archs", "other/archs"):
        (tmp_path / folder).mkdir(parents=True)
    options = tmp_path / "options/train/x4.yml"
    options.write_text(FROM_SCRATCH)
    with pytest.raises(ConfigError, match=r"archs/.*has the class PlainNet of network_g: name the file, --arch"):
        adopt(options)
    (tmp_path / "basicsr/archs/plain_arch.py").write_text("raise RuntimeError('imported')\nclass PlainNet(Base):\n")
    (tmp_path / "basicsr/archs/plainer_arch.py").write_text("class PlainNetLarge(PlainNet):\n")
    assert adopt(options).values["model"] == f"{tmp_path}/basicsr/archs/plain_arch.py:PlainNet"
    monkeypatch.chdir(tmp_path)
    assert adopt(Path("options/train/x4.yml")).values["model"] == "basicsr/archs/plain_arch.py:PlainNet"
    (tmp_path / "other/archs/plain_arch.py").write_text("class PlainNet:\n")
    with pytest.raises(ConfigError, match=r"basicsr/archs/plain_arch.py, .*other/archs/plain_arch.py has the class"):
        adopt(options)
    with pytest.raises(MissingInputError, match=r"no file at .*absent.py"):
        adopt(options, Path("absent.py"))
    with pytest.raises(ConfigError, match=r"expected FILE.py"):
        adopt(options, Path("options/train/x4.yml"))


def test_the_command_prints_the_account_and_never_replaces_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "options.yml").write_text(ON_EIGHT_GPUS)
    (tmp_path / "net.py").touch()
    arguments = [str(tmp_path / "options.yml"), "--arch", str(tmp_path / "net.py")]
    output = tmp_path / "configs/my.yml"
    command.main([*arguments, "--output", str(output)])
    printed = capsys.readouterr().out
    assert "carried              scale: 3 (scale: 3)\n" in printed
    assert (
        "changed              datasets.train.batch_size_per_gpu: 4 (batch_size: 32; the batch of 8 GPUs together)"
        in printed
    )
    assert "without counterpart  train.use_grad_clip: True (not known here)\n" in printed
    assert printed.endswith(f"wrote {output}; python -m ssiu train --config {output}\n")
    before = output.read_bytes()
    for existing in (output, tmp_path / "options.yml", tmp_path):
        with pytest.raises(OutputError, match="already exists"):
            command.main([*arguments, "--output", str(existing)])
    assert output.read_bytes() == before and (tmp_path / "options.yml").read_text() == ON_EIGHT_GPUS

"""Option files of BasicSR, which most published methods are trained with, said again in our keys.

What is known of them is their documentation and what their runs do; nothing in them is executed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssiu.config.basicsr.data import carry_test_sets, carry_training_data
from ssiu.config.basicsr.lines import Line, Options
from ssiu.config.basicsr.training import carry_training
from ssiu.config.load import make_config, read_values
from ssiu.config.yaml import write_yaml
from ssiu.errors import ConfigError, first_names, one_line
from ssiu.files import require_file
from ssiu.models.custom import SCALE_WORDS

CLASS = re.compile(r"[A-Za-z_]\w*")
METRICS = ("calculate_psnr", "calculate_ssim", "calculate_psnr_pt", "calculate_ssim_pt")
WITHOUT_EFFECT = {
    "dist_params.backend": "torchrun sets it up",
    "dist_params.port": "torchrun sets it up",
    "find_unused_parameters": "not needed",
    "val.pbar": "a terminal shows one",
    "val.suffix": "images keep their names",
}
"""Lines that change no result."""


@dataclass(frozen=True)
class Adopted:
    """The keys of a config that means what an option file says, and what became of each line of that file."""

    source: Path
    values: dict[str, Any]
    lines: Sequence[Line]

    def count(self, outcome: str) -> int:
        """How many lines were ``carried``, ``changed`` or are ``without counterpart``."""
        return sum(line.outcome == outcome for line in self.lines)

    def to_yaml(self) -> str:
        """The config, with comments on every line of the option file that was not carried."""
        told = [f"# {line.outcome}: {line}" for line in self.lines if line.outcome != "carried"]
        return "\n".join([one_line(f"# adopted from {self.source}"), *told, write_yaml(self.values)])


def adopt(path: Path, architecture: Path | None = None) -> Adopted:
    """What the option file ``path`` says, as a config. The class of its network is in the file ``architecture``.

    Without one, that is looked for in the repository of the option file. Raises MissingInputError (66) for a file that
    is not there, and ConfigError (78) for what is no option file, or asks for something that is not done here.
    """
    options = Options(path, read_values(path, "an option file of BasicSR"))
    _refuse(options)
    _carry_general(options)
    _carry_network(options, architecture)
    carry_test_sets(options)
    if "train" in options.section("datasets"):
        carry_training_data(options)
        carry_training(options)
    _carry_weights(options)
    _carry_validation_and_logs(options)
    for key, value in options.unaccounted():
        if value is None or key in WITHOUT_EFFECT:
            options.carried(key, WITHOUT_EFFECT.get(key, "nothing is set"))
        else:
            options.lost(key, "not known here")
    config = make_config(options.config, f"{path}, as a config").model_dump(mode="json")
    return Adopted(path, {key: config[key] for key in config if key in options.config}, options.lines())


def _refuse(options: Options) -> None:
    """ConfigError (78) for an option file whose training would be another one here."""
    train = options.section("train")
    scale = options.get("scale", int, 1)
    reasons = {
        f"upscales by {scale}; networks here upscale by 2, 3 or 4": scale not in (2, 3, 4),
        "trains a second network (GAN)": "network_d" in options.tree or "gan_opt" in train,
        "trains on video": bool(options.keys("datasets.train.num_frame")),
        "degrades images at random; LR is bicubic here": bool(options.keys("datasets.train.kernel_list")),
        "trains on luma alone (color: y); networks here take RGB": options.get("datasets.train.color") == "y",
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise ConfigError(f"{options.path} cannot be adopted: it {reason}")


def _carry_general(options: Options) -> None:
    name = options.get("name", str, "")
    if re.search(r"[/\\]", name):
        options.changed("name", "a folder's name", log_name=re.sub(r"[/\\]", "_", name))
    elif name:
        options.carried("name", log_name=name)
    options.carried("scale", scale=options.get("scale", int))
    if (seed := options.get("manual_seed", int)) is not None:
        options.carried("manual_seed", "other random numbers follow from it", seed=seed)
    kind = options.get("model_type", str, "SRModel")
    if kind == "SRModel":
        options.carried("model_type", "the training of `ssiu train`")
    else:
        options.changed("model_type", f"trained as SRModel trains; what else {kind} does is its own code")


def _carry_network(options: Options, architecture: Path | None) -> None:
    kind = options.get("network_g.type", str, "")
    if not CLASS.fullmatch(kind):
        raise options.error("network_g.type", "the name of a class", kind)
    if architecture:
        require_file(architecture, "the Python file that has the class of the network")
        if architecture.suffix != ".py":
            raise ConfigError(f"--arch {architecture}: expected FILE.py, the file that has the class of the network")
    options.carried("network_g.type", model=f"{architecture or _find_architecture(options.path, kind)}:{kind}")
    arguments: dict[str, Any] = {}
    for name, value in options.section("network_g").items():
        key = f"network_g.{name}"
        if name in SCALE_WORDS:
            if options.get(key, int) != options.config["scale"]:
                raise options.error(key, f"the scale, {options.config['scale']}", value)
            options.carried(key, "scale, which the network gets under its own name for it")
        elif name != "type":
            arguments[name] = value
            options.carried(key, "in model_args")
    options.config["model_args"] = arguments


def _find_architecture(options: Path, kind: str) -> Path:
    """The file ``*/archs/*_arch.py``, as BasicSR has them, of the option file's repository that has the class."""
    folders = options.absolute().parents
    root = next((folder.parent for folder in folders if folder.name == "options"), folders[0])
    found = [path for path in sorted(root.glob("*/archs/*_arch.py")) if _has_class(path, kind)]
    if len(found) == 1:
        return found[0].relative_to(Path.cwd()) if found[0].is_relative_to(Path.cwd()) else found[0]
    where = first_names(map(str, found)) if found else f"no {root}/*/archs/*_arch.py"
    raise ConfigError(f"{where} has the class {kind} of network_g: name the file, --arch FILE.py")


def _has_class(path: Path, name: str) -> bool:
    try:
        return re.search(rf"^class {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _carry_weights(options: Options) -> None:
    strict = options.get("path.strict_load_g", bool, True)
    if file := options.get("path.pretrain_network_g", str):
        if strict or "max_iterations" not in options.config:
            options.carried("path.pretrain_network_g", pretrain=file)
            options.carried("path.strict_load_g", "all tensors must fit")
        else:
            options.carried("path.pretrain_network_g", init_trunk=file)
            options.carried("path.strict_load_g", "init_trunk skips tensors of another shape")
        if options.get("path.param_key_g", str, "params") == "params_ema":
            options.carried("path.param_key_g", "a file's average comes first")
        else:
            options.changed("path.param_key_g", "a file's average, params_ema, comes first where it has one")
    else:
        options.carried("path.strict_load_g", "nothing is loaded")
        options.carried("path.param_key_g", "nothing is loaded")
    if options.get("path.resume_state"):
        options.lost("path.resume_state", "BasicSR's state cannot be continued: start from its weights with pretrain")


def _carry_validation_and_logs(options: Options) -> None:
    every = options.get("val.val_freq", int)
    if every is not None and options.config["eval_sets"]:
        options.carried("val.val_freq", validate_every=every)
    elif every is not None:
        options.lost("val.val_freq", "there is no set to score")
    options.carried("val.save_img", save_image=options.get("val.save_img", bool, False))
    scale = options.config["scale"]
    for key in options.keys("val.metrics"):
        metric, _, name = key.rpartition(".")
        if options.get(f"{metric}.type") not in METRICS:
            options.lost(key, "only PSNR and SSIM are measured")
        elif name == "type" or [name, options.get(key)] in (
            ["crop_border", scale], ["test_y_channel", True], ["better", "higher"],
        ):  # fmt: skip
            options.carried(key, "protocol standard")
        else:
            options.changed(key, f"protocol standard: of luma, without {scale} pixels at the border")
    for key, ours in (("print_freq", "log_every"), ("save_checkpoint_freq", "save_every")):
        if (every := options.get(f"logger.{key}", int)) is not None:
            options.carried(f"logger.{key}", **{ours: every})
    if project := options.get("logger.wandb.project", str):
        options.changed("logger.wandb.project", f"export WANDB_PROJECT={project}", tracker="wandb")
    if options.get("logger.use_tb_logger", bool, True):
        options.carried("logger.use_tb_logger", "always written")
    else:
        options.changed("logger.use_tb_logger", "always written")

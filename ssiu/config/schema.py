"""The configuration: every key with its type, range, default and one line of documentation.

Keys are flat, so that the YAML files of the paper's release run unchanged; `ssiu.config.load` reads them.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ssiu.config.values import (
    ClassName,
    FilePath,
    Flag,
    FolderName,
    GpuId,
    SetNames,
    folders_once,
    listed,
    sets_in_order,
)
from ssiu.config.yaml import write_yaml
from ssiu.models import ANY, MODELS
from ssiu.plugins import class_of, is_plugin

OPTIMIZERS = ("adamw", "adam", "muon")
LOSSES = ("l1", "fft", "charbonnier", "mse", "ssim", "gradient")


def _own_blocks(values: dict[str, Any]) -> int:
    """The default of the model's constructor; 1 for a model without blocks."""
    if values["model"] not in MODELS:  # of the user's own: not imported only to check a config
        return 1
    argument = inspect.signature(MODELS[values["model"]]).parameters.get("n_blocks")
    return argument.default if argument else 1


def _without_losses(value: float) -> Callable[[dict[str, Any]], float | None]:
    """The default ``value`` of a key that is null, so says nothing, where ``losses`` are given."""
    return lambda values: value if values.get("losses") is None else None


def _of_ours(value: Any) -> Callable[[dict[str, Any]], Any]:
    """The default ``value`` of a key that is null, so says nothing, for an optimizer of the user's choice."""
    return lambda values: None if is_plugin(values.get("optimizer", "")) else value


def _keys_of_models() -> dict[str, list[str]]:
    """The keys that describe a network, each with the models whose constructors take it."""
    takers: dict[str, list[str]] = {}
    for kind in dict.fromkeys(MODELS.values()):
        for key in inspect.signature(kind).parameters:
            takers.setdefault(key, []).append(kind.__name__)
    return takers


class Config(BaseModel):
    """One run. Frozen; unknown keys are errors. ``k`` in a description is the value of the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    # the network
    model: str = Field(
        "SSIU",
        description="SSIU (old name: SSUFSR), IDSANet, or your own package.module:Class or FILE.py:Class; any: the "
        "network that pretrain holds (not for training), and keys that describe a network are ignored",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of your own model, except the scale; {x2: {...}}: arguments for one scale only",
    )
    scale: Literal[2, 3, 4] = Field(4, description="upscaling factor")
    rgb_range: float = Field(
        1.0, description="largest input value of the network; 255 for your own model that works in 0 to 255"
    )
    colors: int = Field(3, description="channels of an image; must be 3")
    n_feats: int = Field(64, ge=1, le=1024, description="feature channels C")
    num_heads: int = Field(4, ge=1, le=64, description="attention heads")
    n_blocks: int = Field(
        default_factory=_own_blocks,
        ge=1,
        le=99,
        description="SS-ReM stages N (SSIU: a multiple of 3) or blocks; the default depends on the model",
    )
    attention: Literal["sparse", "dense"] = Field("sparse", description="sparse: ESAM; dense: the SAM of Table III")
    moe: Flag = Field(True, description="use MoE-FS; false: the row without it in Table III")
    beta_sign: Literal["minus", "plus"] = Field(
        "minus", description="Eq. 13; minus: v - b (released); plus: v + b (printed)"
    )
    skip: Literal["norm", "raw"] = Field("norm", description="Eq. 12; norm: LN(a) (released); raw: a (printed)")
    share_group: Literal["none"] | Annotated[int, Field(ge=0, le=99)] = Field(
        0, description="IDSANet: blocks that share an attention matrix; 0 = all, none = no sharing"
    )
    smu: Literal["gconv", "none"] = Field("gconv", description="IDSANet: sequence unit after each attention")
    purification: Literal["lkcipm", "none"] = Field("lkcipm", description="IDSANet: large-kernel purification, or none")
    hybrid_attention: Literal["inham", "none"] = Field("inham", description="IDSANet: hybrid attention, or none")

    # weights to start from
    pretrain: FilePath | None = Field(None, description="weights to evaluate or fine-tune: a file or hf:owner/name")
    init_trunk: FilePath | None = Field(None, description="weights of another scale to start from, without their tail")

    # training data
    data_path: FilePath = Field("./data", min_length=1, description="folder with DF2K, benchmark and your own sets")
    training_dataset: Annotated[
        ClassName | FolderName | list[FolderName] | dict[FolderName, Annotated[float, Field(gt=0, le=1e9)]],
        AfterValidator(sets_in_order),
    ] = Field(
        "df2k",
        description="df2k, div2k or a folder in data_path; several: [df2k, lsdir], or with their shares of the "
        "samples: {df2k: 2, lsdir: 1}; or your own torch Dataset, package.module:Class or FILE.py:Class",
    )
    training_dataset_args: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of your own Dataset, except the scale; {x2: {...}}: arguments for one scale only",
    )
    hr_folder: Annotated[FilePath | list[FilePath] | None, AfterValidator(folders_once)] = Field(
        None, description="folder of HR images, or a list of folders, to train on instead of training_dataset"
    )
    lr_folder: Annotated[FilePath | list[FilePath] | None, AfterValidator(folders_once)] = Field(
        None, description="folder of LR images for each hr_folder; empty = LR is made from HR"
    )
    image_list: FilePath | None = Field(None, description="text file of image names, one per line: train only on these")
    patch_size: int = Field(
        default_factory=lambda data: 64 * data.get("scale", 4),
        ge=1,
        le=4096,
        description="side of an HR training patch, a multiple of scale; default: LR patches of 64x64",
    )
    batch_size: int = Field(40, ge=1, le=65_536, description="patches per batch, on all devices together")
    data_repeat: int = Field(40, ge=1, le=1_000_000, description="times each image is visited in an epoch")
    data_augment: Flag = Field(True, description="random flips and rotations (all eight)")
    threads: int = Field(8, ge=0, le=256, description="data loader workers per process, and so per GPU")
    cache_dir: FilePath | None = Field(None, description="where decoded images are cached; empty = beside the data")
    cache_gb: float | None = Field(
        None, ge=0, le=1e6, description="GB of decoded images to keep, those visited last; 0 = none; empty = no limit"
    )

    # optimisation
    seed: int = Field(2024, ge=0, lt=2**32, description="initial weights, order of the data, dropout")
    epochs: int = Field(290, ge=1, le=1_000_000, description="length of training in passes over the data")
    max_iterations: int | None = Field(None, ge=1, le=10**9, description="length in optimizer steps, instead of epochs")
    optimizer: str = Field(
        "adamw",
        description="adamw (as released), adam (as in the paper), muon (for short runs), or package.module:Class or "
        "FILE.py:Class, such as torch.optim:NAdam, which gets lr and optimizer_args",
    )
    optimizer_args: dict[str, Any] = Field(
        default_factory=dict, description="arguments of a package.module:Class optimizer, except lr"
    )
    lr: float = Field(1e-3, gt=0, le=1e3, description="highest learning rate")
    muon_lr: float = Field(
        6e-3, gt=0, le=1e3, description="muon: highest learning rate of the 1x1 convolutions; lr is for all others"
    )
    muon_weight_decay: float = Field(0.05, ge=0, description="muon: weight decay of the 1x1 convolutions")
    betas: tuple[float, float] | None = Field(
        default_factory=_of_ours((0.9, 0.99)), description="adamw, adam, muon: decay rates of Adam's moments"
    )
    weight_decay: float | None = Field(
        default_factory=_of_ours(1e-4), ge=0, description="weight decay; muon: not of the 1x1 convolutions"
    )
    scheduler: Literal["cosine", "restarts", "multistep", "wsd", "constant"] = Field(
        "cosine",
        description="cosine: falls to eta_min; restarts: several cosines; multistep: steps at decays or milestones; "
        "wsd: constant, then linear to eta_min; constant",
    )
    warmup_epochs: int = Field(
        0, ge=0, le=1_000_000, description="warm-up: epoch k has the rate lr * k / warmup_epochs"
    )
    warmup_iterations: int = Field(
        0, ge=0, le=10**9, description="the same in iterations; replaces the scheduler's rate there"
    )
    eta_min: float = Field(1e-6, ge=0, description="last learning rate of cosine, restarts and wsd")
    decays: list[int] = Field(default_factory=list, description="multistep: epochs after which lr is multiplied")
    milestones: list[Annotated[int, Field(ge=0, le=10**9)]] = Field(
        default_factory=list, description="multistep: iterations after which lr is multiplied, instead of decays"
    )
    gamma: float = Field(0.5, gt=0, le=1, description="multistep: factor of each multiplication")
    periods: list[Annotated[int, Field(ge=1, le=10**9)]] = Field(
        default_factory=list, description="restarts: iterations of each cosine; after the last one the rate is eta_min"
    )
    restart_weights: list[Annotated[float, Field(gt=0, le=1e3)]] = Field(
        default_factory=list, description="restarts: factor of each cosine's height; empty = 1"
    )
    decay_share: float = Field(0.3, gt=0, le=1, description="wsd: share of the run in which lr falls, at its end")
    losses: dict[str, float | dict[str, Any]] | None = Field(
        None,
        description=f"weights of the losses: {', '.join(LOSSES)}, or your own package.module:Class or FILE.py:Class; "
        "{weight: 1.0, ...} also gives arguments; empty = lambda_l1 and lambda_fft",
    )
    lambda_l1: float | None = Field(
        default_factory=_without_losses(1.0), ge=0, description="weight of the L1 loss if losses is empty"
    )
    lambda_fft: float | None = Field(
        default_factory=_without_losses(0.01),
        ge=0,
        description="weight of the L1 loss between Fourier transforms if losses is empty",
    )
    grad_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0 = off")
    accumulate: int = Field(1, ge=1, le=65_536, description="batches per optimizer step")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the moving average of the weights; 0 = off")
    ema_warmup: Flag = Field(True, description="smaller ema_decay at the start; false = the same from the first step")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = Field("fp32", description="arithmetic of the network")
    compile: Flag | Literal["reduce-overhead", "max-autotune"] = Field(
        False, description="use torch.compile; a mode of it makes faster steps but compiles longer"
    )
    checkpoint_activations: Flag = Field(False, description="saves memory: stages are computed twice")
    deterministic: Flag = Field(False, description="only deterministic algorithms, so runs repeat bit for bit")

    # the machine
    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="auto: the first of cuda, mps, cpu")
    gpu_ids: Annotated[list[GpuId], BeforeValidator(listed, json_schema_input_type=list[GpuId] | GpuId | None)] = Field(
        default_factory=list, description="number of the GPU to use; several need torchrun"
    )

    # logs, checkpoints, evaluation
    log_path: FilePath = Field("./logs", min_length=1, description="folder of all runs")
    log_name: FolderName | None = Field(None, description="name of this run's folder; empty = {model}_x{scale}")
    log_every: int = Field(100, ge=1, le=10**9, description="iterations between log lines")
    tracker: Literal["none", "wandb"] = Field(
        "none", description="wandb: also log to Weights & Biases, which reads its environment variables"
    )
    save_every: int = Field(1000, ge=1, le=10**9, description="iterations between checkpoints")
    keep_last: int = Field(2, ge=1, le=10**6, description="older checkpoints kept beside last.pt")
    test_every: int = Field(
        1, ge=0, le=10**6, description="epochs between validations (ten in all with max_iterations); 0 = none"
    )
    validate_every: int | None = Field(
        None, ge=1, le=10**9, description="iterations between validations; empty = test_every"
    )
    validation_set: FolderName | None = Field(None, description="set that chooses best.pt; never a test set")
    eval_sets: SetNames = Field(
        ["Set5", "Set14", "B100", "Urban100", "Manga109"], description="test sets, or single images such as Set5/bird"
    )
    save_image: Flag = Field(True, description="test.py also writes the SR images")
    tile: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(0, description="side of LR tiles; 0 = whole image")
    self_ensemble: Flag = Field(False, description="average over the eight flips and rotations")

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in (*MODELS, ANY) and not is_plugin(value):
            raise ValueError(f"one of {', '.join(MODELS)}, {ANY}, or package.module:Class or FILE.py:Class of your own")
        return value

    @field_validator("rgb_range")
    @classmethod
    def _known_range(cls, value: float, others: ValidationInfo) -> float:
        if value != 1.0 and not (value == 255 and is_plugin(others.data.get("model", ""))):
            raise ValueError("1.0, because images enter the network in [0, 1] (255: a model of your own)")
        return value

    @field_validator("colors")
    @classmethod
    def _rgb(cls, value: int) -> int:
        if value != 3:
            raise ValueError("3, because images are RGB and one-channel ones are replicated")
        return value

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        if value not in OPTIMIZERS and not is_plugin(value):
            raise ValueError(f"{', '.join(OPTIMIZERS)}, or package.module:Class, such as torch.optim:NAdam")
        return value

    @field_validator("betas", mode="before")
    @classmethod
    def _decay_rates(cls, value: Any, others: ValidationInfo) -> tuple[float, float] | None:
        if value is None and is_plugin(others.data.get("optimizer", "")):
            return None
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        if not (pair and all(type(beta) in (int, float) and 0 <= beta < 1 for beta in value)):
            raise ValueError("two numbers in [0, 1)")
        return tuple(value)

    @field_validator("losses")
    @classmethod
    def _known_losses(cls, value: dict[str, float | dict[str, Any]] | None) -> Any:
        for name, given in (value or {}).items():
            if name not in LOSSES and not is_plugin(name):
                raise ValueError(f"names of losses ({', '.join(LOSSES)}, package.module:Class or FILE.py:Class)")
            weight = given.get("weight") if isinstance(given, dict) else given
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
                raise ValueError(f"a weight from 0 for {name}, such as {name}: 0.1 or {name}: {{weight: 0.1}}")
        if len({class_of(name) for name in value or ()}) < len(value or ()):
            raise ValueError("classes of different names, by which they are logged")
        return value

    @field_validator("eval_sets")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len({name.lower() for name in value}) < len(value):  # folders are found without regard to case
            raise ValueError("every set once")
        return value

    @field_validator("decays")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if any(b <= a for a, b in zip([0, *value], value, strict=False)):
            raise ValueError("rising positive epochs, such as [150, 220, 260]")
        return value

    @field_validator("milestones")
    @classmethod
    def _in_order(cls, value: list[int]) -> list[int]:
        if value != sorted(value):
            raise ValueError("iterations in their order, such as [250000, 400000]")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.patch_size % self.scale:
            raise ValueError(f"patch_size {self.patch_size} is not a multiple of scale {self.scale}")
        if self.n_feats % self.num_heads:
            raise ValueError(f"n_feats {self.n_feats} is not a multiple of num_heads {self.num_heads}")
        if self.eta_min > self.lr:
            raise ValueError(f"eta_min {self.eta_min} is larger than lr {self.lr}")
        if self.max_iterations is None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leaves nothing of epochs {self.epochs}")
        if self.warmup_epochs and self.warmup_iterations:
            raise ValueError("warmup_epochs and warmup_iterations both say how long the warm-up is: give one")
        if self.scheduler == "multistep" and bool(self.decays) == bool(self.milestones):
            raise ValueError("scheduler multistep needs either decays, such as [150, 220, 260], or milestones")
        if self.scheduler == "restarts" and len(self.restart_weights or self.periods) != len(self.periods or "1"):
            raise ValueError(
                "scheduler restarts needs periods, such as [250000, 250000], and a restart_weight for each"
            )
        for key, scheduler in (("milestones", "multistep"), ("periods", "restarts"), ("restart_weights", "restarts")):
            if getattr(self, key) and self.scheduler != scheduler:
                raise ValueError(f"{key} are for scheduler {scheduler}, not {self.scheduler}")
        if is_plugin(self.optimizer) and (self.betas, self.weight_decay) != (None, None):
            raise ValueError(f"betas and weight_decay do not reach {self.optimizer}: put them into optimizer_args")
        if not is_plugin(self.optimizer) and (self.optimizer_args or self.weight_decay is None):
            raise ValueError(f"{self.optimizer} takes a number weight_decay, and no optimizer_args")
        if "lr" in self.optimizer_args:
            raise ValueError("lr is a key of its own, which the schedule follows: take it out of optimizer_args")
        if self.losses is not None and (self.lambda_l1, self.lambda_fft) != (None, None):
            raise ValueError("losses, and lambda_l1 or lambda_fft, both say what is minimised: give one of the two")
        if not any(w.get("weight") if isinstance(w, dict) else w for w in self.loss_terms.values()):
            raise ValueError("every loss has the weight 0: nothing to minimise")
        if self.pretrain and self.init_trunk:
            raise ValueError("pretrain and init_trunk both say where to start: give one")
        if self.hr_folder and not isinstance(self.training_dataset, str):
            raise ValueError("hr_folder is one set, and training_dataset names several: give one")
        own = next(filter(is_plugin, self.training_sets), None)
        if own and (len(self.training_sets) > 1 or self.hr_folder or self.image_list):
            raise ValueError(f"training_dataset {own} stands alone, without other sets, hr_folder and image_list")
        if self.training_dataset_args and not own:
            raise ValueError("training_dataset_args are for a class of your own, and training_dataset names none")
        if self.lr_folder and not self.hr_folder:
            raise ValueError("lr_folder holds the LR images of hr_folder, which is not given")
        if self.lr_folder and len(listed(self.hr_folder)) != len(listed(self.lr_folder)):
            raise ValueError("each folder in hr_folder needs one in lr_folder")
        if self.model_args and not is_plugin(self.model):
            raise ValueError(f"model_args are for a model of your own, and {self.model} is none")
        tested = {name.partition("/")[0].lower() for name in self.eval_sets}
        if self.validation_set and self.validation_set.lower() in tested:
            raise ValueError(f"validation_set {self.validation_set} is also in eval_sets: never select on a test set")
        ours = MODELS[self.model].__name__ if self.model in MODELS else None  # one's own has model_args
        foreign = [
            f"{key}={getattr(self, key)} (a key of {' and '.join(models)})"
            for key, models in _keys_of_models().items()
            if self.model != ANY
            and key != "scale"
            and key in Config.model_fields
            and ours not in models
            and getattr(self, key) != default_of(key, vars(self))
        ]
        if foreign:
            raise ValueError(f"model {self.model} does not take {', '.join(foreign)}: remove it or change model")
        return self

    @property
    def training_sets(self) -> dict[str, float | None]:
        """The names of the training sets, each with its share of the samples where shares are given."""
        given = self.training_dataset
        return dict(given) if isinstance(given, dict) else dict.fromkeys([given] if isinstance(given, str) else given)

    @property
    def training_folders(self) -> list[tuple[str, str | None]]:
        """Each HR folder that is given itself, with its LR folder where there is one."""
        hr, lr = listed(self.hr_folder), listed(self.lr_folder)
        return list(zip(hr, lr or [None] * len(hr), strict=True))

    @property
    def loss_terms(self) -> dict[str, Any]:
        """The weight of each loss by name, or its weight and arguments."""
        return loss_terms_of(vars(self))

    @property
    def validates(self) -> bool:
        """Whether sets are scored during training."""
        return self.validate_every is not None or self.test_every > 0

    @property
    def run_name(self) -> str:
        """The run's folder under ``log_path``."""
        return self.log_name or f"{class_of(self.model)}_x{self.scale}"

    @property
    def run_folder(self) -> Path:
        """``log_path/run_name``."""
        return Path(self.log_path) / self.run_name

    def to_yaml(self) -> str:
        """Every key with its value, readable by `load_config`."""
        return write_yaml(self.model_dump(mode="json"))


KEYS_OF_NETWORKS = frozenset(_keys_of_models()) - {"scale"}
"""What describes a network of ours alone."""


def loss_terms_of(values: Mapping[str, Any]) -> dict[str, Any]:
    old = {"l1": values["lambda_l1"] or 0.0, "fft": values["lambda_fft"] or 0.0}
    return old if values["losses"] is None else values["losses"]


def default_of(key: str, values: dict[str, Any]) -> Any:
    """The default of ``key`` in a config with the other ``values``."""
    return Config.model_fields[key].get_default(call_default_factory=True, validated_data=values)

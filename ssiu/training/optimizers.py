"""The optimizers: AdamW as released, Adam as in the paper's text, Muon, and any other by its name."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.plugins import failure, find, is_plugin

MOMENTUM = 0.95  # of Muon
ITERATIONS = 5  # of Newton-Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of its polynomial; all singular values end between about 0.7 and 1.2
UPDATE_RMS = 0.2  # size of Muon's entries relative to its learning rate, as AdamW's usually come out
EPS = 1e-8  # of AdamW


def build_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimizer of ``config`` for every parameter of ``model``, ready for a step.

    Raises ConfigError (78) for one of the user's that cannot be used, and for a schedule or an average beside one that
    averages the weights itself.
    """
    if is_plugin(config.optimizer):
        return _build_named(model, config)
    numbers: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "muon":
        return Muon(model, muon_lr=config.muon_lr, muon_weight_decay=config.muon_weight_decay, **numbers)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer]
    return kind(model.parameters(), fused=True, **numbers)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every group; Muon's keep their proportion to the others."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("relative_rate", 1.0)


def _build_named(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    name, arguments = config.optimizer, config.optimizer_args
    kind: Callable[..., torch.optim.Optimizer] = find("optimizer", name, torch.optim.Optimizer)
    try:
        optimizer = kind(model.parameters(), lr=config.lr, **arguments)
    except Exception as error:
        raise failure("optimizer", name, f"cannot be built with lr and optimizer_args {arguments}", error) from error
    if any(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in _arguments(optimizer.step)):
        raise ConfigError(f"optimizer {name}: its step needs a closure, which training does not have; use another")
    if averages_weights(optimizer):
        if config.scheduler != "constant" or config.ema_decay:
            raise ConfigError(f"optimizer {name} averages the weights itself: set scheduler=constant and ema_decay=0")
        use_training_weights(optimizer)
    return optimizer


def _arguments(function: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    return inspect.signature(function).parameters.values()


def averages_weights(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is schedule-free: its ``eval()`` puts the averaged weights into the model, ``train()`` the others."""
    return callable(getattr(optimizer, "eval", None)) and callable(getattr(optimizer, "train", None))


def use_training_weights(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights that train into the model of a schedule-free ``optimizer``."""
    optimizer.train()  # type: ignore[attr-defined]  # see `averages_weights`


def use_averaged_weights(optimizer: torch.optim.Optimizer) -> None:
    """Puts the averaged weights into the model of a schedule-free ``optimizer``."""
    optimizer.eval()  # type: ignore[attr-defined]  # see `averages_weights`


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The `state_dict` for a checkpoint, which holds no infinity and no objects: settings of that kind are left out."""
    state = optimizer.state_dict()
    plain = (bool, int, str, list, tuple, dict, Tensor, type(None))
    groups = [
        {key: v for key, v in group.items() if isinstance(v, plain) or (isinstance(v, float) and math.isfinite(v))}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, config: Config, state: dict[str, Any], saved_by: str
) -> bool:
    """Takes over ``state``, an `optimizer_state` that the optimizer called ``saved_by`` left; ``config`` may be newer.

    Its settings stay those of ``config``. Everything else in the parameter groups is progress, such as the sums of a
    schedule-free optimizer. False, and nothing is taken over, where another kind of optimizer saved it.
    """
    own, saved = optimizer.state_dict()["param_groups"], state["param_groups"]
    named = is_plugin(config.optimizer) or is_plugin(saved_by)
    if (named and config.optimizer != saved_by) or [g["params"] for g in own] != [g["params"] for g in saved]:
        return False
    groups = []
    for group, then in zip(own, saved, strict=True):
        settings = config.optimizer_args if named else group.keys() - {"lr"}
        groups.append({**group, **then, **{key: group[key] for key in settings if key in group}})
    optimizer.load_state_dict({**state, "param_groups": groups})
    return True


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Of those that have one."""
    return [p.grad for p in parameters if p.grad is not None]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz, for matrices (Jordan et al., 2024); AdamW for everything else.

    Matrices are the weights of Linear layers and of 1x1 convolutions that mix channels, one a convolution's group. One
    whose rows are a multiple of its columns is cut into squares, so that queries, keys and values are orthogonalised
    apart. Equal shapes are computed in one batch. An update has singular values near 1 and is scaled by
    0.2 sqrt(max(rows, columns)) (Liu et al., 2025, arXiv:2502.16982). Since it never shrinks, matrices without weight
    decay grow for as long as the rate is high, and the network becomes unstable (docs/experiments/training.md).

    Args:
        model: whose parameters are optimised.
        lr: AdamW's learning rate.
        muon_lr: that of the matrices; `set_learning_rate` keeps muon_lr / lr.
        muon_weight_decay: that of the matrices, decoupled: times the rate.
        betas, weight_decay: AdamW's.
    """

    def __init__(
        self, model: nn.Module, lr: float, muon_lr: float, betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0, muon_weight_decay: float = 0.0,
    ):  # fmt: skip
        shapes = matrix_shapes(model)
        matrices: dict[tuple[int, int], list[nn.Parameter]] = {}
        others = []
        for name, parameter in model.named_parameters():
            if name in shapes:
                matrices.setdefault(shapes[name], []).append(parameter)
            else:
                others.append(parameter)
        groups: list[dict[str, Any]] = [
            {
                "params": parameters,
                "matrix": shape,
                "lr": muon_lr,
                "relative_rate": muon_lr / lr,
                "weight_decay": muon_weight_decay,
            }
            for shape, parameters in matrices.items()
        ]
        groups.append({"params": others, "matrix": None, "betas": betas, "weight_decay": weight_decay, "fused": True})
        super().__init__(groups, {"lr": lr})

    # The fp16 scaler then does not wait for the device, but sets two tensors for a step: `grad_scale`, how many times
    # too large gradients are, and `found_inf`, 1.0 where they are not finite and the step has to change nothing.
    _step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no loss to return
        """One step for every parameter that has a gradient; there is no closure."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        scaler = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters and group["matrix"]:
                self._step_matrices(parameters, group, **scaler)
            elif parameters:
                self._step_others(parameters, group, **scaler)

    def _step_matrices(
        self, parameters: list[nn.Parameter], group: dict[str, Any], grad_scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        (rows, columns), rate = group["matrix"], group["lr"]
        tensors = list[Tensor](parameters)
        gradients = _gradients(parameters)
        momenta = [self._state(p, "momentum")["momentum"] for p in parameters]
        if grad_scale is not None:
            gradients = list(torch._foreach_div(gradients, grad_scale))
        if found_inf is not None:
            gradients = [torch.where(found_inf > 0, m, g) for m, g in zip(momenta, gradients, strict=True)]
            rate = rate * (1 - found_inf)
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
        stacked = torch.cat([update.reshape(-1, rows, columns) for update in updates])
        stacked = orthogonalise(stacked) * (-rate * UPDATE_RMS * max(rows, columns) ** 0.5)
        counts = [p.numel() // (rows * columns) for p in parameters]
        steps = [part.view_as(p) for part, p in zip(stacked.split(counts), parameters, strict=True)]
        torch._foreach_mul_(tensors, 1 - rate * group["weight_decay"])
        torch._foreach_add_(tensors, steps)

    def _step_others(
        self, parameters: list[nn.Parameter], group: dict[str, Any], grad_scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        states = [self._state(p, "step", "exp_avg", "exp_avg_sq") for p in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            list[Tensor](parameters),
            _gradients(parameters),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPS,
            maximize=False,
            fused=group["fused"],
            grad_scale=grad_scale,
            found_inf=found_inf,
        )

    def _state(self, parameter: nn.Parameter, *names: str) -> dict[str, Tensor]:
        state = self.state[parameter]
        for name in names:
            if name not in state:
                shape = () if name == "step" else parameter.shape
                state[name] = parameter.new_zeros(shape, dtype=torch.float32 if name == "step" else None)
        return state


def orthogonalise(matrices: Tensor) -> Tensor:
    """U V^T of every G = U S V^T in (n, rows, columns), roughly: singular values become 0.7 to 1.2.

    Newton-Schulz with a quintic polynomial, in the dtype of ``matrices``; singular values tiny beside the norm stay
    small.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT  # the smaller side first: the products below are (n, rows, rows)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x if wide else x.mT


def matrix_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(rows, columns) of the matrices in each weight that Muon takes, by the parameter's name."""
    shapes = {}
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, nn.Linear):
            rows, columns = module.weight.shape
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)) and _is_one(module.kernel_size):
            rows, columns = module.out_channels // module.groups, module.in_channels // module.groups
        else:
            continue
        if min(rows, columns) > 1:  # depthwise and single outputs are vectors
            shapes[name] = (columns, columns) if rows % columns == 0 else (rows, columns)
    return shapes


def _is_one(sizes: Iterable[int]) -> bool:
    return all(size == 1 for size in sizes)

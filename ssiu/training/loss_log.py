"""The losses of the steps since the last log line, and the end of a run where one is not finite."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from ssiu.config.schema import Config
from ssiu.data.stream import TrainingData
from ssiu.errors import NonFiniteError
from ssiu.files import write_atomically
from ssiu.training.distributed import Processes

MAX_SKIPPED_STEPS = 20  # of the fp16 scaler in a row, before the run counts as diverged
OLD_TERMS = ("loss", "l1", "fft")  # the columns of an older checkpoint's losses


class LossLog:
    """The loss and its terms by name, for every step since the last log line.

    They stay on the device: the host does not wait for them. Steps that the fp16 scaler skips for infinite gradients
    do not count, unless there are many in a row: however often they are looked at. Their losses may be infinite, too.
    """

    def __init__(self, config: Config, processes: Processes, stream: TrainingData, what_is_left: Callable[[], str]):
        self.config, self.processes, self.stream, self.what_is_left = config, processes, stream, what_is_left
        self.steps: list[Mapping[str, Tensor]] = []  # 0-dim each
        self.skipped = torch.tensor(0, device=processes.device)  # in a row

    def append(self, losses: Mapping[str, Tensor]) -> None:
        """Takes in one more step."""
        self.steps.append(losses)

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """``scaler.update()``, which says whether it has skipped the step: on the device."""
        if not scaler.is_enabled():
            return
        one = torch.ones((), device=self.skipped.device)
        scale = scaler.scale(one)
        scaler.update()
        self.skipped = torch.where(scaler.scale(one) < scale, self.skipped + 1, 0)

    def checked(self, step: int) -> tuple[list[str], Tensor]:
        """The names, and the losses of the finite steps, (n, names): the mean over the ranks, on the CPU.

        A term that a step does not have is 0 there. NonFiniteError (70), when ``step`` are complete, for a bad one.
        """
        names = list(dict.fromkeys(name for losses in self.steps for name in losses))
        zero = torch.zeros((), device=self.skipped.device)
        columns = [torch.stack([losses.get(name, zero) for losses in self.steps]) for name in names]
        table = self.processes.mean(torch.stack(columns, dim=1)).cpu()
        if self.skipped > MAX_SKIPPED_STEPS:
            self.refuse("gradient", step, dict(zip(names, table[-1].tolist(), strict=True)))
        finite = table.isfinite().all(dim=1)
        if not finite.all() and self.config.precision != "fp16":
            first = int((~finite).nonzero()[0])
            self.refuse("loss", step - len(table) + first + 1, dict(zip(names, table[first].tolist(), strict=True)))
        return names, table[finite]

    def take_mean(self, step: int) -> dict[str, float]:
        """The mean of each loss over the steps, of which none is left; NaN where none was finite."""
        names, table = self.checked(step)
        self.steps.clear()
        return dict(zip(names, table.mean(0).tolist(), strict=True))

    def refuse(self, what: str, step: int, losses: Mapping[str, float]) -> NoReturn:
        """NonFiniteError (70); ``non_finite.json`` in the run's folder names the images of this step and the last."""
        k = self.config.accumulate
        files = {s: [n for m in range((s - 1) * k, s * k) for n in self.stream.names(m)] for s in (step - 1, step) if s}
        report = self.config.run_folder / "non_finite.json"
        if self.processes.is_main:
            printed = {name: str(value) for name, value in losses.items()}
            found = {"what": what, "step": step, "losses": printed, "images": files}
            write_atomically(report, json.dumps(found, indent=1).encode())
        raise NonFiniteError(
            f"the {what} is not finite at step {step} ({', '.join(files[step][:3])}, ...; details in {report}); "
            f"{self.what_is_left()}: lower lr, set grad_clip or use precision=fp32"
        )

    def state(self, step: int) -> dict[str, Any]:
        """For a checkpoint: all finite."""
        names, table = self.checked(step) if self.steps else ([], torch.zeros(0, 0))
        self._set(names, table)
        terms = {name: torch.stack([losses[name] for losses in self.steps]) for name in names if self.steps}
        return {"terms": terms, "skipped_steps": int(self.skipped)}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.skipped = torch.tensor(state["skipped_steps"], device=self.skipped.device)
        columns = state["terms"]
        if isinstance(columns, Tensor):
            columns = dict(zip(OLD_TERMS, columns.unbind(dim=1), strict=True))
        self._set(list(columns), torch.stack([*columns.values()], dim=1) if columns else torch.zeros(0, 0))

    def _set(self, names: list[str], table: Tensor) -> None:
        """The steps of ``table`` (n, names) are all there are."""
        self.steps = [dict(zip(names, row, strict=True)) for row in table.to(self.skipped.device)]

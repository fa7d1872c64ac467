"""The loss of the steps since the last log line, and the end of a run where it is not finite."""

import json
from typing import Any, NoReturn

import torch
from torch import Tensor

from ssiu.config.schema import Config
from ssiu.data.stream import TrainingData
from ssiu.errors import NonFiniteError
from ssiu.files import write_atomically
from ssiu.training.distributed import Processes

MAX_SKIPPED_STEPS = 20  # of the fp16 scaler in a row, before the run counts as diverged


class LossTerms:
    """(loss, l1, fft) of every step since the last log line, on the device: the host does not wait for them.

    Steps that the fp16 scaler skips for infinite gradients do not count, unless there are many in a row: however often
    they are looked at. Their losses may be infinite, too.
    """

    def __init__(self, config: Config, processes: Processes, stream: TrainingData):
        self.config, self.processes, self.stream = config, processes, stream
        self.steps: list[Tensor] = []  # (3,) each
        self.skipped = torch.tensor(0, device=processes.device)  # in a row

    def append(self, terms: Tensor) -> None:
        """Of one more step, (3,)."""
        self.steps.append(terms)

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """``scaler.update()``, which says whether it has skipped the step: on the device."""
        if not scaler.is_enabled():
            return
        one = torch.ones((), device=self.skipped.device)
        scale = scaler.scale(one)
        scaler.update()
        self.skipped = torch.where(scaler.scale(one) < scale, self.skipped + 1, 0)

    def checked(self, step: int) -> Tensor:
        """(finite steps, 3), the mean over the ranks, when ``step`` are complete; NonFiniteError (70) for a bad one."""
        if self.skipped > MAX_SKIPPED_STEPS:
            self.refuse("gradient", step, self.steps[-1].tolist())
        terms = self.processes.mean(torch.stack(self.steps)).cpu()
        finite = terms.isfinite().all(dim=1)
        if not finite.all() and self.config.precision != "fp16":
            first = int((~finite).nonzero()[0])
            self.refuse("loss", step - len(terms) + first + 1, terms[first].tolist())
        return terms[finite]

    def take_mean(self, step: int) -> list[float]:
        """Loss, l1 and fft, the mean over the steps, of which none is left; NaN where none was finite."""
        mean = self.checked(step).mean(0).tolist()
        self.steps.clear()
        return mean

    def refuse(self, what: str, step: int, terms: list[float]) -> NoReturn:
        """NonFiniteError (70); ``non_finite.json`` in the run's folder names the images of this step and the last."""
        k = self.config.accumulate
        files = {s: [n for m in range((s - 1) * k, s * k) for n in self.stream.names(m)] for s in (step - 1, step) if s}
        report = self.config.run_folder / "non_finite.json"
        if self.processes.is_main:
            found = {"what": what, "step": step, "loss, l1, fft": [str(t) for t in terms], "images": files}
            write_atomically(report, json.dumps(found, indent=1).encode())
        raise NonFiniteError(
            f"the {what} is not finite at step {step} ({', '.join(files[step][:3])}, ...; details in {report}); "
            "the last checkpoint is sound: lower lr, set grad_clip or use precision=fp32"
        )

    def state(self, step: int) -> dict[str, Any]:
        """For a checkpoint: all finite."""
        if self.steps:
            self.steps = list(self.checked(step).to(self.skipped.device))
        return {
            "terms": torch.stack(self.steps) if self.steps else torch.zeros(0, 3),
            "skipped_steps": int(self.skipped),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.steps = list(state["terms"].to(self.skipped.device))
        self.skipped = torch.tensor(state["skipped_steps"], device=self.skipped.device)

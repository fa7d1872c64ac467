"""The checkpoints of a run: which are written, which are kept, and what there is to go on from."""

from pathlib import Path
from typing import Any

from ssiu.config.schema import Config
from ssiu.files import write_atomically
from ssiu.weights.checkpoint import save_checkpoint


class Checkpoints:
    """``models/last.pt``, the ``keep_last`` before it as ``step_N.pt``, and ``best.pt``.

    Every rank has one and knows what is saved; the first alone ``writes``.
    """

    def __init__(self, config: Config, writes: bool):
        self.keep_last, self.writes = config.keep_last, writes
        self.last, self.best = (config.run_folder / "models" / name for name in ("last.pt", "best.pt"))
        self.saved = (0, 0)  # step and validated of last.pt
        self.best_score: dict[str, Any] = {"psnr": None, "step": 0}
        self.newest: tuple[Path, int] | None = None  # that is intact, and its step

    def goes_on(self, path: Path, state: dict[str, Any], same_set: bool) -> None:
        """The run goes on from ``state`` in ``path``; its best counts where ``same_set`` chooses, and it is here."""
        if same_set and self.best.exists():
            self.best_score = {key: state["best"][key] for key in self.best_score}
        if path.resolve() == self.last.resolve():
            self.saved = (state["step"], state["validated"])
        self.newest = path, state["step"]

    def save(self, state: dict[str, Any]) -> None:
        """Writes last.pt; the one before becomes ``step_N.pt``."""
        if self.writes:
            if self.saved[0] not in (0, state["step"]) and self.last.exists():
                write_atomically(self.last.with_name(f"step_{self.saved[0]:08d}.pt"), self.last.read_bytes())
            save_checkpoint(self.last, state)
            for old in sorted(self.last.parent.glob("step_*.pt"))[: -self.keep_last]:
                old.unlink()
        self.saved = (state["step"], state["validated"])
        self.newest = self.last, state["step"]

    def is_best(self, psnr: float, step: int) -> bool:
        """Whether ``psnr``, reached after ``step`` steps, is the highest so far; then it is `best_score`."""
        if self.best_score["psnr"] is not None and psnr <= self.best_score["psnr"]:
            return False
        self.best_score = {"psnr": psnr, "step": step}
        return True

    def save_best(self, state: dict[str, Any]) -> None:
        """Writes best.pt."""
        if self.writes:
            save_checkpoint(self.best, state)

    def what_is_left(self) -> str:
        """What a run that ends now leaves to go on from."""
        return f"{self.newest[0]} (step {self.newest[1]}) is sound" if self.newest else "no checkpoint was written yet"

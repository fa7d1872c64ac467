"""``tracker: wandb``: a run's numbers and images at Weights & Biases, beside TensorBoard's."""

import importlib.util
import os
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssiu.config.schema import Config
from ssiu.errors import ConfigError, first_line
from ssiu.files import write_atomically


def require_wandb() -> None:
    """ConfigError (78) where wandb is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError("key 'tracker': wandb is not installed: pip install wandb, or leave tracker out")


class WandbRun:
    """A run at Weights & Biases; a training that is resumed goes on in the same one, whose id is in ``.wandb_id``.

    Project, account and mode are wandb's own environment variables, such as WANDB_MODE=offline; the project is ``ssiu``
    where WANDB_PROJECT is not set. ConfigError (78) where wandb cannot start.
    """

    def __init__(self, config: Config):
        import wandb  # a second of import, and not among the dependencies

        self._image = wandb.Image
        folder = config.run_folder
        file = folder / ".wandb_id"
        known = file.read_text().strip() if file.is_file() else uuid.uuid4().hex[:8]
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "ssiu"),
                name=config.run_name,
                id=known,
                resume="allow",
                dir=str(folder),
                config=config.model_dump(mode="json"),
                settings=wandb.Settings(console="off"),  # log.txt has the lines
            )
        except wandb.Error as error:
            raise ConfigError(
                f"key 'tracker': wandb cannot start: {first_line(error)}; WANDB_MODE=offline needs no account"
            ) from None
        write_atomically(file, known.encode())
        self._run.define_metric("*", step_metric="step")  # a resumed run may write a step once more

    def log(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """The numbers of a line of ``metrics.jsonl`` by ``kind/name``, as in TensorBoard; nulls are left out."""
        self._run.log({"step": step} | {f"{kind}/{name}": value for name, value in values.items() if value is not None})

    def log_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """The images of a validation, uint8 (H, W, 3) by ``set/name``."""
        self._run.log({"step": step} | {f"images/{name}": self._image(image) for name, image in images.items()})

    def finish(self) -> None:
        """Ends the run there; what is not uploaded yet is, where there is a network."""
        self._run.finish()

"""Going on with a run: which checkpoint, and whether it still fits the settings and the data."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssiu.config.changes import changed_settings
from ssiu.config.schema import Config
from ssiu.errors import BadInputError, ConfigError, MissingInputError, OutputError, quoted
from ssiu.weights.checkpoint import find_checkpoint, load_checkpoint

log = logging.getLogger("ssiu")

STATE = {"step": int, "validated": int, "skipped_steps": int, "data": str, "terms": object, "best": dict}
STATE |= {"config": dict, "model": dict, "ema": object, "optimizer": dict, "scaler": dict}
"""The entries of a training's checkpoint."""


def find_state(resume: str, own: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that ``resume`` (auto, a run folder or a file) means for a run in folder ``own``, and its state.

    None when ``auto`` finds no checkpoint at all. Raises MissingInputError (66) when a named one is not there,
    BadInputError (65) when none is intact, OutputError (73) when ``own`` holds another run, or has gone on since the
    named one: its later checkpoints would be lost.
    """
    source = own if resume == "auto" else Path(resume)
    found: tuple[Path, dict[str, Any]] | None
    if resume != "auto" and not source.is_dir():
        found = source, load_checkpoint(source, STATE)
    else:
        found = find_checkpoint(source / "models", STATE)
    if found is None:
        if resume != "auto":
            raise MissingInputError(
                f"--resume {resume}: no checkpoint there; expected a run folder or a .pt file of one"
            )
        return None
    path, state = found
    if own.resolve() not in path.resolve().parents:
        if (own / "config.yml").exists():
            raise OutputError(f"{own} holds another run than {path}; choose another log_name")
    elif not source.is_dir():
        with contextlib.suppress(BadInputError):  # none that is intact
            newest = find_checkpoint(own / "models", STATE)
            if newest and newest[1]["step"] > state["step"]:
                raise OutputError(
                    f"{own} has continued to step {newest[1]['step']} since {path}, which is at step {state['step']}: "
                    "continue the older one in a new log_name"
                )
    return found


@contextlib.contextmanager
def taken_over(path: Path) -> Iterator[None]:
    """BadInputError (65) where an entry of the checkpoint ``path`` does not hold what this version puts there."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        said = quoted(f"{type(error).__name__}: {error}", 200)
        raise BadInputError(
            f"{path} is a checkpoint of another version or program ({said}); use an older checkpoint, or start a new "
            f"run with pretrain={path}"
        ) from None


def refuse_changes(config: Config, manifest: str, state: dict[str, Any], path: Path, allowed: bool) -> None:
    """ConfigError (78) or BadInputError (65) when settings or data are not the checkpoint's; ``allowed`` logs them."""
    changes = changed_settings(state["config"], config.model_dump(mode="json"))
    if changes and not allowed:
        raise ConfigError(f"{path} was made with other settings: {'; '.join(changes)}; --allow-changes resumes anyway")
    if state["data"] != manifest:
        if not allowed:
            raise BadInputError(f"the training images are not those of {path}; --allow-changes resumes anyway")
        changes.append("training images")
    for change in changes:
        log.warning("changed since %s: %s", path, change)

"""Weights on the Hugging Face Hub: ``hf:owner/name[@revision][/file]``, wherever a file of weights is named.

huggingface_hub (the extra ``hub``) fetches and keeps them: safetensors only, whatever else lies beside them.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssiu.config.schema import Config
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, first_line, first_names, quoted
from ssiu.files import write_error
from ssiu.progress import Progress

log = logging.getLogger("ssiu")

INSTALL = "pip install huggingface_hub"
EXPECTED = "expected hf:owner/name, with @revision and /file.safetensors where they are needed"
USUAL = "model.safetensors"  # the file that is meant where a repository has several
KEYS = ("pretrain", "init_trunk")  # of a config, which name weights
SECONDS = 10.0  # without an answer, until the hub cannot be reached
COMMIT = re.compile(r"[0-9a-f]{40}")
SOURCE = re.compile(
    r"hf:/{0,2}(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?(/(?P<file>.+))?", re.DOTALL
)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository of models; an empty name is that of its only safetensors file, or `USUAL`."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"hf:{self.repo}@{self.revision}" + (f"/{self.file}" if self.file else "")

    @property
    def name(self) -> str:
        """What to call it where a file of a folder is called by its stem."""
        stem = Path(self.file).stem if self.file not in ("", USUAL) else ""
        return "_".join([self.repo.rpartition("/")[2], *([stem] if stem else [])])


def is_on_hub(source: Path | str) -> bool:
    """Whether ``source`` names a file on the hub, and not one here."""
    return Path(source).as_posix().startswith("hf:")


def parse(source: Path | str) -> HubFile:
    """What ``source`` names. Raises ConfigError (78) for another form, BadInputError (65) for another kind of file."""
    found = SOURCE.fullmatch(Path(source).as_posix())
    file = (found and found["file"]) or ""
    if found is None or ".." in file.split("/"):
        raise ConfigError(f"{source}: {EXPECTED}")
    if file and not file.endswith(".safetensors"):
        raise BadInputError(f"{source}: only safetensors are fetched from the hub, because they cannot hold programs")
    return HubFile(found["repo"], found["revision"] or "main", file)


def plain_name(weights: Path) -> str:
    """What to call the results of ``weights``: the stem of a file here, on the hub the repository's name."""
    return parse(weights).name if is_on_hub(weights) else weights.stem


def local_file(source: Path) -> Path:
    """``source`` itself, or the file that `obtain` gives."""
    return obtain(source)[0] if is_on_hub(source) else source


def obtain(source: Path | str) -> tuple[Path, HubFile]:
    """The file in the cache of huggingface_hub, fetched if need be, and ``source`` with its commit and file.

    Where the hub cannot be reached, what is in the cache is used. Raises as `parse`, MissingInputError (66) for what is
    not there or not for this user, BadInputError (65) for a repository without safetensors, BusyError (75) where the
    hub cannot be reached and the cache lacks the file, SaveError (74) when the disk is full.
    """
    wanted = parse(source)
    hub = import_hub()
    with _one_line(hub, source):
        names, reached = _files(hub, wanted)
        name = wanted.file or _only_weights(names, source)
        kept = hub.hf_hub_download(
            wanted.repo, name, revision=wanted.revision, local_files_only=not reached, tqdm_class=Progress
        )
    commit = Path(kept).parents[name.count("/")].name  # snapshots/COMMIT/FILE
    return Path(kept), HubFile(wanted.repo, commit, name)


def with_commit(source: Path | str) -> Path:
    """``source`` itself, or its name on the hub with the commit and the file, to be kept with what is made of it."""
    return Path(str(obtain(source)[1])) if is_on_hub(source) else Path(source)


def with_commits(config: Config) -> Config:
    """``config`` naming its weights on the hub as `with_commit` does."""
    named = {key: getattr(config, key) for key in KEYS}
    return config.model_copy(
        update={key: str(with_commit(source)) for key, source in named.items() if source and is_on_hub(source)}
    )


def as_recorded(config: Config, recorded: Mapping[str, Any]) -> Config:
    """``config`` with the commits that a run of it has ``recorded``, where it names none itself: nothing is asked."""
    changes = {}
    for key in KEYS:
        given, then = getattr(config, key), str(recorded.get(key))
        if given and is_on_hub(given) and is_on_hub(then):
            wanted, found = parse(given), parse(then)
            named = wanted.file in ("", found.file) and not COMMIT.fullmatch(wanted.revision)
            if named and wanted.repo == found.repo:
                changes[key] = then
    return config.model_copy(update=changes)


def _files(hub: Any, wanted: HubFile) -> tuple[list[str], bool]:
    """The files of the repository, and whether the hub said so; else it is those in the cache."""
    exact = wanted.file and COMMIT.fullmatch(wanted.revision)
    if exact and isinstance(hub.try_to_load_from_cache(wanted.repo, wanted.file, revision=wanted.revision), str):
        return [wanted.file], False
    try:
        info = hub.HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=SECONDS)
        if info.sha != wanted.revision:
            log.info("%s is commit %s", wanted, info.sha)
        return [file.rfilename for file in info.siblings or ()], True
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError, hub.errors.HFValidationError):
        raise
    except Exception as error:  # sockets, TLS and HTTP have more kinds than anybody thought of
        try:
            folder = Path(hub.snapshot_download(wanted.repo, revision=wanted.revision, local_files_only=True))
        except hub.errors.LocalEntryNotFoundError:
            raise error from None
        log.info("%s cannot be reached; using the commit in the cache, %s", hub.constants.ENDPOINT, folder.name)
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], False


def _only_weights(names: list[str], source: Path | str) -> str:
    found = [name for name in names if name.endswith(".safetensors")]
    if not found:
        others = f" among its files ({quoted(first_names(names), 200)})" if names else ""
        raise BadInputError(
            f"{source} has no safetensors{others}; only these are fetched from the hub, since others may hold programs"
        )
    if len(found) > 1 and USUAL not in found:
        raise ConfigError(f"{source} has several files ({quoted(first_names(found), 300)}); add /FILE to name one")
    return found[0] if len(found) == 1 else USUAL


@contextmanager
def _one_line(hub: Any, source: Path | str) -> Iterator[None]:
    """Whatever huggingface_hub raises, as an error of ours."""
    errors = hub.errors
    try:
        yield
    except (BadInputError, ConfigError):
        raise
    except errors.GatedRepoError:
        page = f"{hub.constants.ENDPOINT}/{parse(source).repo}"
        raise MissingInputError(
            f"{source}: its owner requires your agreement: give it at {page}, then run hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise MissingInputError(
            f"{source}: no such model repository, or it is private; check the name, or run hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise MissingInputError(f"{source}: the repository has no such revision; leave it out for the newest") from None
    except errors.LocalEntryNotFoundError:
        raise BusyError(f"{source}: the hub cannot be reached, and the cache does not hold this file") from None
    except errors.EntryNotFoundError:
        raise MissingInputError(f"{source}: the repository has no such file; leave it out for its only one") from None
    except errors.HFValidationError as error:
        raise ConfigError(f"{source}: {quoted(first_line(error), 200)}") from None
    except OSError as error:
        if error.errno is None:  # an HTTP error of older versions
            raise _unreachable(hub, source, error) from None
        folder = Path(hub.constants.HF_HUB_CACHE)
        raise write_error(folder, error, "free some space, or set HF_HOME to another disk") from None
    except Exception as error:
        raise _unreachable(hub, source, error) from None


def _unreachable(hub: Any, source: Path | str, error: Exception) -> BusyError:
    reason = quoted(first_line(error), 100)
    return BusyError(f"{source}: {hub.constants.ENDPOINT} cannot be reached ({reason}); try again later")


def import_hub() -> Any:
    """huggingface_hub. Raises ConfigError (78) where it is not installed."""
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils.logging
    except ImportError:
        raise ConfigError(
            f"weights from the Hugging Face Hub need a package that is not installed: {INSTALL}"
        ) from None
    huggingface_hub.utils.logging.set_verbosity_error()  # what goes wrong has a line of its own
    return huggingface_hub

"""A class from outside this package, which the user names: `package.module:Class` or `path/to/file.py:Class`.

This is the one place where a config makes Python import something, so such a name is taken from a ``--config`` file
or the command line only: never from weights, a checkpoint or what a run has saved beside it.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from ssiu.errors import ConfigError, first_line, first_names
from ssiu.plugins.basicsr_standin import is_of_basicsr, standing_in

NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|[^\0-\x1f\x7f]+\.py):([A-Za-z_]\w*)")

Kind = TypeVar("Kind")


def is_plugin(name: str) -> bool:
    """Whether ``name`` has the form ``package.module:Class`` or ``path/to/file.py:Class``."""
    return NAME.fullmatch(name) is not None


def class_of(name: str) -> str:
    """``Class`` of such a ``name``; any other name itself."""
    return name.rpartition(":")[2]


def label_of(name: str) -> str:
    """What tables call it: its class, or its file or module where that is called Net or Model, as many are."""
    source, _, class_name = name.rpartition(":")
    if class_name.lower() not in ("net", "model"):
        return class_name
    return Path(source).stem if source.endswith(".py") else source.rpartition(".")[2]


def find(key: str, name: str, kind: type[Kind]) -> type[Kind]:
    """The class ``name``, which must be a ``kind``; ``key`` is the config key that names it, for messages.

    Modules are looked for as Python does, in the current folder too; a file's own folder is searched for what the file
    imports, also relative to itself. Raises ConfigError (78), caused by the file's own error.
    """
    source, _, class_name = name.rpartition(":")
    try:
        module = _from_file(source) if source.endswith(".py") else _from_package(source)
    except _NotThereError as error:
        raise ConfigError(f"{key} {name}: there is no {error}") from None
    except (Exception, SystemExit) as error:  # a script without a guard may end Python
        raise failure(key, name, "cannot be imported", error) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        there = [each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, kind)]
        instead = f"; it has {first_names(there)}" if there else ""
        looked = getattr(module, "__file__", None) or source
        raise ConfigError(f"{key} {name}: {looked} has no class {class_name} derived from {kind.__name__}{instead}")
    return found


def failure(key: str, name: str, what: str, error: BaseException) -> ConfigError:
    """A ConfigError of one line that says ``what`` is wrong with ``name`` and what it said itself."""
    reason = first_line(error)
    return ConfigError(f"{key} {name} {what}: {type(error).__name__}: {reason}; --debug shows where")


class _NotThereError(Exception):
    """The module or the file itself is not there; the message says which, and what to do."""


def _from_package(module: str) -> ModuleType:
    here = Path.cwd()
    _search(here)  # the installed command does not look here, `python -m ssiu` does
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that it imports
        raise _NotThereError(
            f"module '{error.name}'; expected an installed package, or a file in {here}: run in the folder that holds "
            "it, name that folder in PYTHONPATH, or say path/to/file.py:Class"
        ) from None


def _from_file(source: str) -> ModuleType:
    """The module of a file, imported once a process, in a private package whose other modules are its neighbours."""
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise _NotThereError(f"file {path}; expected path/to/file.py:Class")
    package = f"_ssiu_{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
    name = f"{package}.{path.stem.replace('.', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    _search(path.parent)
    sys.modules[package] = ModuleType(package)
    sys.modules[package].__path__ = [str(path.parent)]
    tried: set[Path | None] = set()
    with ExitStack() as stack:
        while True:
            try:
                return _executed(name, path)
            except Exception as error:
                of_basicsr = is_of_basicsr(error)
                folder = None if of_basicsr else _above(path, error)
                if folder in tried or not (folder or of_basicsr):
                    raise
            tried.add(folder)
            if folder:
                _search(folder)
            else:
                stack.enter_context(standing_in(path.parent, package))


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader  # as for every file that ends in .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # else the next attempt would find half of it
        raise
    return module


def _above(path: Path, error: Exception) -> Path | None:
    """The folder that holds the package that an import named, where the file ``path`` is in that package."""
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return next((folder.parent for folder in path.parents if folder.name == package), None) if package else None


def _search(folder: Path) -> None:
    """Lets Python look for modules in ``folder``, after everywhere else."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

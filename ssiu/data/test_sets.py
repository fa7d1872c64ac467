"""Test sets: full images in name order, read one at a time."""

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ssiu.config.schema import Config
from ssiu.data.catalog import MOD2, MOD12, SETS, TEST_SETS, known_name
from ssiu.data.layouts import available_sets, folder_of, set_folders
from ssiu.data.pairs import Pair, download_hint, find_pairs
from ssiu.data.training_set import TrainingSet
from ssiu.errors import ConfigError, MissingInputError, first_names
from ssiu.files import docs_page


def copy_name(name: str, hr_sizes: Iterable[tuple[int, int]]) -> str:
    """The name of the copy of the set ``name`` whose HR images have these (height, width): ``Set5 mod12``."""
    sizes = np.array(list(hr_sizes))
    if name in TEST_SETS and not (sizes % 12).any():  # no usual copy has such sizes only
        return name + MOD12
    whole = name in TEST_SETS and name != "Set5" and len(sizes) == SETS[name].images
    return name + MOD2 if whole and not (sizes % 2).any() else name  # nor all even sides, but for Set5


class BenchmarkSet:
    """A test set: ``len()``, and ``set[i]`` -> (name, LR uint8 (h, w, 3), HR uint8 (scale*h, scale*w, 3))."""

    def __init__(self, name: str, pairs: Sequence[Pair], scale: int):
        self.name = copy_name(name, (pair.hr_size for pair in pairs))
        self.pairs, self.scale = pairs, scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        """Reads a pair; HR is cropped right and bottom. Raises BadInputError (65) for a damaged image."""
        pair = self.pairs[index]
        return pair.name, *pair.read(self.scale)


def load_test_set(data_path: str | Path, name: str, scale: int) -> BenchmarkSet:
    """The set of that name in ``data_path``, or of one of its images, ``Set5/bird``; errors as `find_pairs`."""
    set_name, _, image = known_name(name).partition("/")
    whole = BenchmarkSet(set_name, find_pairs(data_path, set_name, scale), scale)
    if not image:
        return whole
    if found := [pair for pair in whole.pairs if pair.name == image]:
        return BenchmarkSet(f"{whole.name}/{image}", found, scale)
    there = first_names(pair.name for pair in whole.pairs)
    raise MissingInputError(f"{whole.name} has no image '{image}'; it has {there}")


def load_test_sets(config: Config) -> list[BenchmarkSet]:
    """The sets of ``config.eval_sets``, all checked by header.

    Raises:
        ConfigError (78): a name that is neither a usual test set nor a folder of data_path, or two for one set.
        MissingInputError (66): names every set that is not there, and what to do next.
        BadInputError (65): a pair that does not fit.
    """
    data_path = Path(config.data_path)
    names = [known_name(name) for name in config.eval_sets]
    if names and not data_path.is_dir():
        raise MissingInputError(
            f"data_path {data_path.absolute()}: no such folder, so there is no test set yet"
            f"{_next_steps(names, data_path)}"
        )
    folders = {name: name.partition("/")[0] for name in names}
    absent = {name: folder for name, folder in folders.items() if set_folders(data_path, folder) is None}
    if unknown := [name for name in absent.values() if name not in TEST_SETS and not folder_of(data_path, name)]:
        known = sorted(set(available_sets(data_path)) | set(TEST_SETS))
        raise ConfigError(f"key 'eval_sets': no set is called {', '.join(unknown)}; known: {', '.join(known)}")
    sets, missing, failed = [], [], []
    if nowhere := [name for name in absent.values() if not folder_of(data_path, name)]:
        missing.append(
            f"{', '.join(nowhere)}: not in {data_path.absolute()} (expected benchmark/{nowhere[0]}/HR there)"
        )
    for name in names:
        if name in absent:
            if folder := folder_of(data_path, absent[name]):
                missing.append(f"{name}: {folder.absolute()} has no HR folder")
            failed.append(name)
        else:
            try:
                sets.append(load_test_set(data_path, name, config.scale))
            except MissingInputError as error:
                missing.append(str(error))
                failed.append(name)
    if missing:
        there = shlex.quote(f"eval_sets=[{','.join(name for name in names if name not in failed)}]")
        without = f". To go on without, add {there} to the command" if len(failed) < len(names) else ""
        raise MissingInputError(f"missing test sets: {'; '.join(missing)}{_next_steps(failed, data_path)}{without}")
    refuse_twice("key 'eval_sets'", sets)
    return sets


def refuse_twice(where: str, sets: Sequence[BenchmarkSet]) -> None:
    """Raises ConfigError (78) naming ``where`` when two of ``sets`` are one folder or have one name in the results.

    ``Set5`` and ``Set5 mod12`` are where only the mod12 copy is there.
    """
    for one, other in combinations(sets, 2):
        folders = [each.pairs[0].hr.parent for each in (one, other)]
        whole = "/" not in one.name + other.name  # two images of one set may be named
        if one.name.lower() == other.name.lower() or (whole and folders[0].samefile(folders[1])):
            raise ConfigError(
                f"{where}: {one.name} in {folders[0]} and {other.name} in {folders[1]} are one set under two names; "
                "name it once"
            )


def shared_files(train: TrainingSet, sets: Sequence[BenchmarkSet]) -> dict[str, list[str]]:
    """Names of the images of each set whose HR file is one of the training set's, byte for byte; only sets with some.

    Only files of equal size are read.
    """
    tested = [pair.bytes[1] for each in sets for pair in each.pairs]
    hr_bytes = train.pairs.bytes[:, 1]
    known = {_digest(train.pairs.hr_files[row]) for row in np.flatnonzero(np.isin(hr_bytes, tested)).tolist()}
    shared = {}
    for test_set in sets:
        candidates = [pair for pair in test_set.pairs if pair.bytes[1] in hr_bytes]
        if names := [pair.name for pair in candidates if _digest(pair.hr) in known]:
            shared[test_set.name] = names
    return shared


def _digest(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _next_steps(missing: Sequence[str], data_path: Path) -> str:
    """What somebody without these test sets can do, to end a message with."""
    missing = [name.partition("/")[0] for name in missing]
    return (
        f"{download_hint(missing, data_path)}; {docs_page('data.md')} says where they and your own go. Without data: "
        "python -m ssiu quickstart, or python -m ssiu upscale IMAGE --output FOLDER"
    )

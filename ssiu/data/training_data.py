"""From a config to the training data that it names."""

import re
from pathlib import Path

from ssiu.config.schema import Config
from ssiu.data.cache import ImageCache, default_cache_folder
from ssiu.data.custom import CustomStream
from ssiu.data.pairs import Pairs, find_pairs, pairs_of_folders
from ssiu.data.patches import PatchStream
from ssiu.data.samples import SampleStream
from ssiu.data.training_set import TrainingSet
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.files import require_file
from ssiu.images.encoding import IMAGE_SUFFIXES
from ssiu.plugins import is_plugin

SIZE = re.compile(r" +\(\d+, ?\d+(, ?\d+)?\)( \d+)?$")  # behind a name in a list of images


def build_stream(config: Config) -> SampleStream:
    """The training data of ``config``.

    Raises what `find_pairs`, `read_names`, `TrainingSet`, `PatchStream` and `CustomStream` raise.
    """
    if isinstance(config.training_dataset, str) and is_plugin(config.training_dataset):
        return CustomStream(
            config.training_dataset, config.training_dataset_args, config.scale, config.batch_size, config.data_repeat,
            config.seed,
        )  # fmt: skip
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_folder(config.data_path)
    cache = ImageCache(folder, None if config.cache_gb is None else int(config.cache_gb * 1e9))
    found = _pairs_of_sets(config, folder)
    return PatchStream(
        [TrainingSet(name, pairs, config.scale, cache, config.patch_size) for name, pairs in found.items()],
        config.scale,
        config.patch_size,
        config.batch_size,
        [share for share in config.training_sets.values() if share is not None] or None,
        data_repeat=config.data_repeat,
        augment=config.data_augment,
        seed=config.seed,
    )


def _pairs_of_sets(config: Config, memory: Path) -> dict[str, Pairs]:
    """The pairs of each training set; MissingInputError (66) also for a name in ``image_list`` that no image has."""
    only = read_names(Path(config.image_list)) if config.image_list else None
    if config.hr_folder:
        found = {
            hr: pairs_of_folders(Path(hr), Path(lr) if lr else None, config.scale, only, memory)
            for hr, lr in config.training_folders
        }
    else:
        found = {name: find_pairs(config.data_path, name, config.scale, only, memory) for name in config.training_sets}
    if only:
        unknown = sorted(only.difference(*(pairs.names for pairs in found.values())))
        empty = [name for name, pairs in found.items() if not pairs]
        where = f"key 'image_list': {config.image_list} names"
        if unknown:
            raise MissingInputError(f"{where} images that no training set has: {first_names(unknown)}")
        if empty:
            raise MissingInputError(f"{where} no image of {empty[0]}")
    return found


def read_names(path: Path) -> set[str]:
    """The names of images in a text file, one a line, with or without the suffix.

    A size after it, ``0001.png (1404,2040,3) 1`` as in BasicSR's lists, is passed over.

    Raises MissingInputError (66) where there is no such file, or it names nothing, BadInputError (65) for another file.
    """
    require_file(path, "a text file of image names, one a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: not a text file in UTF-8; expected names of images, one a line") from None
    names = {SIZE.sub("", line.strip()) for line in lines} - {""}
    if not names:
        raise MissingInputError(f"{path}: names no image; expected one a line")
    return {name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name for name in names}

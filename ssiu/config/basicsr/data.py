"""The data sets of an option file."""

import re
from pathlib import Path
from typing import Any

from ssiu.config.basicsr.lines import Options
from ssiu.errors import ConfigError

TRAIN = "datasets.train"
WITHOUT_EFFECT = {
    "name": "a label",
    "task": "a label",
    "pin_memory": "chosen for the device",
    "prefetch_mode": "patches are always fetched ahead",
    "persistent_workers": "they always are",
}


def carry_training_data(options: Options) -> None:
    """``datasets.train`` and ``num_gpu``, which its batch size is to be multiplied with."""
    for key, ours in ((f"{TRAIN}.dataroot_gt", "hr_folder"), (f"{TRAIN}.dataroot_lq", "lr_folder")):
        folders = _folders(options, key)
        said: Any = folders[0] if len(folders) == 1 else folders
        if folders != _given(options, key):
            options.changed(key, "the images that the LMDB was made of", **{ours: said})
        elif folders:
            options.carried(key, **{ours: said})
        elif ours == "hr_folder":
            raise ConfigError(f"{options.path}: '{key}' is not given; expected a folder of HR images")
        else:
            options.carried(key, "LR is made of HR, bicubic")
    _carry_pairing(options, TRAIN)
    if names := options.get(f"{TRAIN}.meta_info_file", str):
        options.carried(f"{TRAIN}.meta_info_file", image_list=names)
    if (side := options.get(f"{TRAIN}.gt_size", int)) is not None:
        options.carried(f"{TRAIN}.gt_size", patch_size=side)
    flips = {key: options.get(f"{TRAIN}.{key}", bool, True) for key in ("use_hflip", "use_rot")}
    for key, value in flips.items():
        if len(set(flips.values())) == 1:
            options.carried(f"{TRAIN}.{key}", data_augment=value)
        else:
            options.changed(f"{TRAIN}.{key}", "all eight flips and rotations or none", data_augment=True)
    if options.get(f"{TRAIN}.use_shuffle", bool, True):
        options.carried(f"{TRAIN}.use_shuffle", "always in random order")
    else:
        options.changed(f"{TRAIN}.use_shuffle", "always in random order")
    _carry_batches(options)
    options.carried(f"{TRAIN}.dataset_enlarge_ratio", data_repeat=options.get(f"{TRAIN}.dataset_enlarge_ratio", int, 1))
    if (workers := options.get(f"{TRAIN}.num_worker_per_gpu", int)) is not None:
        options.carried(f"{TRAIN}.num_worker_per_gpu", threads=workers)


def _carry_batches(options: Options) -> None:
    """Ours is the batch of all devices together."""
    key = f"{TRAIN}.batch_size_per_gpu"
    batch, gpus = options.get(key, int, 1), options.get("num_gpu")
    if gpus in (None, "auto"):
        options.changed("num_gpu", f"batch_size is that of all GPUs together: {batch} times as many as you have")
        options.carried(key, batch_size=batch)
    elif (gpus := options.get("num_gpu", int)) > 1:
        options.carried("num_gpu", f"in batch_size; torchrun --nproc_per_node {gpus} computes the same on as many")
        options.changed(key, f"the batch of {gpus} GPUs together", batch_size=batch * gpus)
    else:
        options.carried("num_gpu", **({} if gpus else {"device": "cpu"}))
        options.carried(key, batch_size=batch)


def carry_test_sets(options: Options) -> None:
    """``val``, ``val_1``, ``test_1`` ...: sets in the usual folders, which lie side by side."""
    sets: dict[str, None] = {}
    for name in options.section("datasets"):
        if name == "train":
            continue
        section = f"datasets.{name}"
        hr = Path(next(iter(_folders(options, f"{section}.dataroot_gt")), ""))
        above = hr.parent.parent
        data_path = str(above.parent if above.name == "benchmark" else above)
        if not hr.parent.name or not re.match("HR|GT", hr.name, re.IGNORECASE):
            options.lost(section, "a test set must be in data_path/NAME/HR: move it there and add NAME to eval_sets")
        elif data_path != options.config.setdefault("data_path", data_path):
            options.lost(section, f"test sets must be in one data_path, {options.config['data_path']}: move it there")
        else:
            sets[hr.parent.name] = None
            options.carried(f"{section}.name", f"in eval_sets: {hr.parent.name}")
            options.carried(f"{section}.dataroot_gt", f"data_path: {data_path}")
            options.carried(f"{section}.dataroot_lq", "found beside HR")
            _carry_pairing(options, section)
    options.config["eval_sets"] = list(sets)


def _carry_pairing(options: Options, section: str) -> None:
    """How the pairs of a data set are found and read."""
    kind = options.get(f"{section}.type", str, "PairedImageDataset")
    if kind == "PairedImageDataset":
        options.carried(f"{section}.type", "pairs of images")
    else:
        options.changed(f"{section}.type", f"pairs of images; what else {kind} does is its own code")
    if options.get(f"{section}.io_backend.type", str, "disk") == "disk":
        options.carried(f"{section}.io_backend.type", "images in a folder")
    else:
        options.changed(f"{section}.io_backend.type", "images in a folder")
    scale, template = options.config["scale"], options.get(f"{section}.filename_tmpl", str, "{}")
    if template in ("{}", f"{{}}x{scale}", f"{{}}_x{scale}"):
        options.carried(f"{section}.filename_tmpl", "detected")
    else:
        options.lost(f"{section}.filename_tmpl", f"LR images are called NAME, NAMEx{scale} or NAME_x{scale}")
    for name, why in WITHOUT_EFFECT.items():
        if f"{section}.{name}" in options.keys(section) and not (name == "name" and section != TRAIN):
            options.carried(f"{section}.{name}", why)


def _given(options: Options, key: str) -> list[Any]:
    value = options.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def _folders(options: Options, key: str) -> list[str]:
    """The folders that a line names; an LMDB by the name that its folder of images usually has."""
    given = _given(options, key)
    if not all(isinstance(each, str) for each in given):
        raise options.error(key, "a folder, or a list of folders", given)
    return [each.removesuffix(".lmdb") for each in given]

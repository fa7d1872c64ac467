"""Trains a reduced SSIU x2 on the photographs inside scikit-image and scores it beside bicubic, in minutes on a CPU.

bash scripts/quickstart.sh               (makes the environment first)
ssiu quickstart max_iterations=200
ssiu quickstart scale=4 log_name=x4      (a second run beside the first)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage.data

from ssiu.cli.console import command_parser
from ssiu.config.load import load_config
from ssiu.data.layouts import LAYOUTS
from ssiu.data.prepare import make_lr_folders
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import ConfigError, MissingInputError
from ssiu.evaluation.evaluate import evaluate
from ssiu.files import make_folder
from ssiu.images.io import save_image
from ssiu.inference.networks import Bicubic
from ssiu.models.base import SRNetwork
from ssiu.progress import log_to_console
from ssiu.report.tables import Table, cell
from ssiu.training.trainer import Trainer
from ssiu.weights.load import find_weights, load_model

TEST = ("astronaut", "chelsea", "coffee")
TRAIN = ("rocket", "motorcycle", "hubble_deep_field", "retina", "immunohistochemistry", "brick", "grass", "gravel")


def photograph(name: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    image = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def make_set(folder: Path, names: Sequence[str], scale: int) -> None:
    """``folder/{HR,LR_bicubic/X{scale}}`` in the layout of the benchmark sets; what is there stays."""
    folders = LAYOUTS[0].at(folder)
    images = {name: make_folder(folders.hr) / f"{name}.png" for name in names}
    for name, path in images.items():
        if not path.exists():
            save_image(path, photograph(name))
    make_lr_folders(images, folders, [scale], replace=False)


def main(argv: Sequence[str]) -> None:
    parser = command_parser("quickstart", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that win over quickstart.yml")
    parser.add_argument("--allow-changes", action="store_true", help="resume although settings changed")
    args = parser.parse_intermixed_args(argv)
    config = load_config("quickstart", args.overrides)
    if not config.eval_sets:
        raise ConfigError("key 'eval_sets': empty, so nothing would be scored; name a set such as eval_sets=[test]")
    log_to_console()
    for name, images in ((next(iter(config.training_sets)), TRAIN), (config.eval_sets[0], TEST)):
        make_set(Path(config.data_path) / name, images, config.scale)
    test_sets = load_test_sets(config)

    Trainer(config, resume="auto", allow_changes=args.allow_changes).run()

    networks: dict[str, SRNetwork] = {"bicubic": Bicubic(config.scale)}
    networks["SSIU, reduced, just trained"] = load_model(config.run_folder / "models" / "last.pt")
    try:
        released = find_weights("SSIU", config.scale)
        networks[f"SSIU, {released.name}"] = load_model(released)
    except MissingInputError:
        pass  # the table goes without the released weights
    rows = []
    for name, network in networks.items():
        result = evaluate(network, test_sets, save_to=config.run_folder / "images" / name, protocols=("standard",))
        rows.append([name, *(cell(image.scores["standard"], "standard") for image in result.images)])
        rows[-1].append(cell(result.mean(test_sets[0].name), "standard"))
    header = ["PSNR dB / SSIM of luma", *(pair.name for pair in test_sets[0].pairs), "mean"]
    print(Table(f"\nx{config.scale}, standard protocol", header, rows).text())
    print(f"LR | bicubic | SR | HR side by side: {config.run_folder / 'results'}")
    print("next: python -m ssiu reproduce (downloads the test sets and the authors' weights; prints the paper's rows)")

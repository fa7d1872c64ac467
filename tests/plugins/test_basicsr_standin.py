"""Files that import BasicSR run where it cannot be imported; what stands in for it is gone afterwards."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ssiu.errors import ConfigError
from ssiu.plugins import basicsr_standin, find

USUAL = """
import basicsr.archs.my_blocks as blocks
from basicsr.archs.my_blocks import Block
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY
from basicsr.archs.arch_util import to_2tuple, trunc_normal_, default_init_weights, make_layer, pixel_unshuffle
from .arch_util import ResidualBlockNoBN, Upsample

@ARCH_REGISTRY.register()
class Net(Block):
    pair = to_2tuple(3)
    def __init__(self):
        super().__init__()
        get_root_logger().info("built")
        self.body = make_layer(ResidualBlockNoBN, 2, num_feat=8)
        self.up = Upsample(4, 8)
        default_init_weights(self.up, 0.5)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder basicsr/archs of a repository that is not on Python's path."""
    folder = tmp_path / "basicsr/archs"
    folder.mkdir(parents=True)
    (tmp_path / "basicsr/__init__.py").write_text("raise ImportError('the copy in a repository imports everything')")
    (folder / "usual_arch.py").write_text(USUAL)
    (folder / "my_blocks.py").write_text("from torch import nn\nclass Block(nn.Module):\n    pass\n")
    (folder / "arch_util.py").write_text("from basicsr.ops.dcn import deform_conv\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("_ssiu_")]:
        del sys.modules[name]


def _left() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "basicsr"]


def test_a_file_with_the_usual_imports_and_neighbours_runs_and_nothing_stays(here: Path) -> None:
    network = find("model", f"{here}/usual_arch.py:Net", nn.Module)()
    assert network.up(network.body(torch.rand(1, 8, 5, 6))).shape == (1, 8, 20, 24)
    assert network.pair == (3, 3) and not _left()


def test_an_installed_one_that_does_not_import_is_replaced_and_one_that_does_is_used(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("broken", "import torchvision.transforms.of_long_ago\n"), ("whole", "")):
        (tmp_path / name / "basicsr/utils").mkdir(parents=True)
        (tmp_path / name / "basicsr/__init__.py").write_text(content)
        (tmp_path / name / "basicsr/utils/__init__.py").touch()
        registry = "class R:\n    def register(self):\n        return lambda kind: type('Registered', (kind,), {})\n"
        (tmp_path / name / "basicsr/utils/registry.py").write_text(f"{registry}ARCH_REGISTRY = R()\n")
        (here / f"{name}.py").write_text(
            "from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n"
            "@ARCH_REGISTRY.register()\nclass Net(nn.Module):\n    pass\n"
        )
    for name, found in (("broken", "Net"), ("whole", "Registered")):
        with monkeypatch.context() as patched:
            patched.syspath_prepend(tmp_path / name)
            assert find("model", f"{here}/{name}.py:Net", nn.Module).__name__ == found
            for each in _left():
                del sys.modules[each]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("from basicsr.archs.arch_util import flow_warp", r"no basicsr\.archs\.arch_util\.flow_warp, only .*to_2tuple"),
        ("from basicsr.utils import scandir", r"no basicsr\.utils\.scandir"),
        ("from basicsr.ops.dcn import deform_conv", r"No module named 'basicsr\.ops'"),
    ],
)
def test_what_it_lacks_is_named_in_one_line(here: Path, line: str, named: str) -> None:
    (here / "more.py").write_text(f"from torch import nn\n{line}\nclass Net(nn.Module):\n    pass\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=named) as error:
            find("model", f"{here}/more.py:Net", nn.Module)
        assert "\n" not in str(error.value) and not _left()


def test_a_file_of_losses_finds_its_neighbours_too(here: Path) -> None:
    (here / "loss_util.py").write_text("def weighted(kind):\n    return kind\n")
    (here / "losses.py").write_text(
        "from torch import nn\nfrom basicsr.utils.registry import LOSS_REGISTRY\n"
        "from basicsr.losses.loss_util import weighted\n"
        "@LOSS_REGISTRY.register()\n@weighted\nclass Loss(nn.Module):\n    pass\n"
    )
    assert find("losses", f"{here}/losses.py:Loss", nn.Module)()


def test_the_helpers_compute_what_their_names_say() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(64, 64, 3), nn.BatchNorm2d(4)
    basicsr_standin.default_init_weights([conv, norm], scale=0.1, bias_fill=2)
    assert conv.weight.std().item() == pytest.approx(0.1 * (2 / (64 * 9)) ** 0.5, rel=0.05)
    assert (conv.bias == 2).all() and (norm.weight == 1).all() and (norm.bias == 2).all()
    x = torch.rand(1, 4, 6, 6)
    assert basicsr_standin.pixel_unshuffle(x, 3).shape == (1, 36, 2, 2)
    block = basicsr_standin.ResidualBlockNoBN(4, res_scale=0.0)
    assert block(x).equal(x)
    assert [tuple(basicsr_standin.Upsample(s, 4)(x).shape[2:]) for s in (2, 3, 4)] == [(12, 12), (18, 18), (24, 24)]
    with pytest.raises(ValueError, match="3 or a power of 2, got 5"):
        basicsr_standin.Upsample(5, 4)
    assert [basicsr_standin.to_2tuple(value) for value in (7, [1, 2])] == [(7, 7), (1, 2)]

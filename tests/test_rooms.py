"""The shape of the house: imports run down only, no two files import each other, and it imports without Unix."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = (  # a file imports from its own floor and those below; rooms of one floor that must not meet are listed apart
    {"cli"},
    {"bench", "web"},
    {"report", "training"},
    {"evaluation"},
    {"inference"},
    {"export", "download"},
    {"data", "weights", "device"},
    {"config", "images"},
    {"models"},
    {"files", "plugins", "progress"},
    {"errors"},
)
APART = ({"report", "training"}, {"bench", "web"}, {"export", "download"}, {"config", "images"})
UNIX_ONLY = ("fcntl", "grp", "posix", "pwd", "resource", "termios")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / "ssiu").rglob("*.py"))}


def imports(name: str) -> set[str]:
    """The modules of ours that ``name`` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {module for module in names if module in MODULES} - {name}
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room(name) in rooms)


HOUSE = [name for name in MODULES if room(name) not in ("", "__main__")]


def test_imports_run_down_only() -> None:
    for name in HOUSE:
        for other in imports(name) - {"ssiu"}:
            assert floor(name) <= floor(other), f"{name} imports {other}, which stands above it"
            assert not any({room(name), room(other)} == pair for pair in APART), f"{name} imports {other}"


def test_the_ground_floor_holds_what_every_room_uses_and_nothing_else() -> None:
    loose = {path.stem for path in (ROOT / "ssiu").glob("*.py")}
    assert loose == {"__init__", "__main__", "device", "files", "errors", "progress"}


def test_no_two_files_import_each_other() -> None:
    above: dict[str, set[str]] = {name: imports(name) - {"ssiu"} for name in HOUSE}
    while above:  # take away what imports nothing that is left; a circle never becomes free
        free = [name for name, others in above.items() if not others & above.keys() - {name}]
        assert free, f"a circle among {sorted(above)}"
        for name in free:
            del above[name]


def test_every_module_imports_where_there_is_no_unix() -> None:
    code = f"""
import importlib.util, sys
sys.path.insert(0, {str(ROOT / "tests/helpers")!r})
from torchvision_standin import stand_in
stand_in()
without = set() if importlib.util.find_spec("spandrel") else {{"ssiu.export.spandrel_arch"}}
if not without:
    import spandrel
import torch, torch.distributed, torch.utils.tensorboard, matplotlib.figure, skimage.data, onnxruntime, pytorch_msssim
hidden = {UNIX_ONLY!r}
for name in hidden:
    sys.modules[name] = None
for name in {sorted(MODULES)!r}:
    if name not in {{"ssiu.__main__", *without}}:
        __import__(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

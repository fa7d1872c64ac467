"""Scripts run inside the test's own process: importing torch again for each would take most of the time."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def load_script(name: str) -> ModuleType:
    """The script ``name`` of the repository as a module; its ``main(argv)`` raises the errors a user would see."""
    spec = importlib.util.spec_from_file_location(Path(name).stem + "_script", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""What our own source never does: run what a file says. Read from the syntax tree, so comments do not count."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("*.py"), *ROOT.glob("ssiu/**/*.py")])
PICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
IMPORTS_FROM_A_TABLE = {"ssiu/__init__.py", "ssiu/cli/__init__.py"}  # of modules of ours, which stands in the file
IMPORTS_WHAT_THE_USER_NAMES = {"ssiu/plugins/__init__.py"}  # in a --config file or on the command line, nowhere else
YAML_EXECUTES = {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "load_all"}


def violations(source: str) -> Iterator[str]:
    """Every rule that ``source`` breaks, with the line."""
    tree = ast.parse(source)
    safe_loaders = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    } | {"yaml.SafeLoader"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = getattr(node, "module", None)
            names = [origin or ""] if origin else [alias.name for alias in node.names]
            for name in names:
                if name.split(".")[0] in PICKLERS:
                    yield f"{node.lineno}: imports {name}"
            if origin in ("torch", "torch.serialization", "yaml", "importlib") and any(
                alias.name in ("load", "import_module", *YAML_EXECUTES) for alias in node.names
            ):
                yield f"{node.lineno}: hides where {origin}.load comes from"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{node.lineno}: bare except"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("torch.load", "torch.serialization.load") and keywords.get("weights_only") != "True":
            yield f"{node.lineno}: torch.load without weights_only=True"
        if called in ("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"):
            yield f"{node.lineno}: {called} runs code"
        if called == "yaml.load" and keywords.get("Loader") not in safe_loaders:
            yield f"{node.lineno}: yaml.load without a SafeLoader"
        if called in {f"yaml.{name}" for name in YAML_EXECUTES}:
            yield f"{node.lineno}: {called}"
        if called in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "os.system"):
            yield f"{node.lineno}: {called}"
        if called in ("importlib.import_module", "importlib.__import__") or called.endswith(".exec_module"):
            yield f"{node.lineno}: imports by name"
        if keywords.get("allow_pickle", "False") != "False":
            yield f"{node.lineno}: allow_pickle"
        if keywords.get("shell", "False") != "False":
            yield f"{node.lineno}: shell"


def test_the_source_runs_nothing_that_a_file_says() -> None:
    found = {str(path.relative_to(ROOT)): list(violations(path.read_text(encoding="utf-8"))) for path in SOURCES}
    kinds = {name: {rule.partition(": ")[2] for rule in rules} for name, rules in found.items() if rules}
    assert kinds == {name: {"imports by name"} for name in IMPORTS_FROM_A_TABLE | IMPORTS_WHAT_THE_USER_NAMES}, found


BROKEN = (
    "torch.load(path)",
    "torch.load(path, weights_only=False)",
    "torch.load(path, weights_only=flag)",
    "from torch import load",
    "import pickle",
    "import os, pickle as p",
    "from dill import loads",
    "torch.hub.load('a', 'b')",
    "yaml.load(text)",
    "yaml.load(text, Loader=yaml.FullLoader)",
    "class L(yaml.Loader): pass\nyaml.load(text, Loader=L)",
    "yaml.unsafe_load(text)",
    "from yaml import load",
    "eval(text)",
    "x = [exec(text)]",
    "__import__(name)",
    "importlib.import_module(name)",
    "spec.loader.exec_module(module)",
    "np.load(path, allow_pickle=True)",
    "np.load(path, allow_pickle=flag)",
    "subprocess.run(line, shell=True)",
    "try:\n    f()\nexcept:\n    pass",
)


KEPT = (
    "torch.load(path, weights_only=True)",
    "model.eval()",
    "torch.compile(model)",
    "re.compile(pattern)",
    "class L(yaml.SafeLoader): pass\nyaml.load(text, Loader=L)",
    "yaml.safe_load(text)",
    "np.load(path)",
    "# eval(text)",
    "try:\n    f()\nexcept Exception:\n    raise",
)


def test_the_rules_see_what_breaks_them_and_nothing_else() -> None:
    assert {source: len(list(violations(source))) for source in BROKEN} == dict.fromkeys(BROKEN, 1)
    assert [source for source in KEPT if list(violations(source))] == []

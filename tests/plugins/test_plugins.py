"""Classes that the user names: found in packages and in files, once a process, and every mistake is one line."""

import inspect
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from ssiu.errors import ConfigError
from ssiu.plugins import find, is_plugin, label_of

NET = """
from torch import nn
from .parts import Part
import beside

class Net(nn.Module):
    part = Part
    word = beside.WORD

class Other(Net):
    pass

def function():
    return Net()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with nets/my-net.v2.py and what it imports; forgotten afterwards."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/my-net.v2.py").write_text(NET)
    (tmp_path / "nets/parts.py").write_text("class Part:\n    pass\n")
    (tmp_path / "nets/beside.py").write_text("WORD = 'beside'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_file_is_imported_once_whichever_way_its_path_is_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    (here / "link.py").symlink_to("nets/my-net.v2.py")
    names = [f"{path}:Net" for path in ("nets/my-net.v2.py", here / "nets/my-net.v2.py", "~/nets/../link.py")]
    kinds = {find("model", name, nn.Module) for name in names}
    assert len(kinds) == 1
    (kind,) = kinds
    assert kind.word == "beside" and kind.part.__name__ == "Part"


def test_its_classes_can_be_pickled_and_inspected_and_reach_forked_workers(here: Path) -> None:
    kind = find("model", "nets/my-net.v2.py:Net", nn.Module)
    assert type(pickle.loads(pickle.dumps(kind()))) is kind
    assert inspect.getsource(kind).startswith("class Net(nn.Module):")
    child = os.fork()
    if not child:
        os._exit(0 if find("model", "nets/my-net.v2.py:Net", nn.Module) is kind else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_files_of_one_name_are_apart_and_hide_no_module(here: Path) -> None:
    for folder in ("a", "b"):
        (here / folder).mkdir()
        (here / folder / "json.py").write_text(f"from torch import nn\nclass Net(nn.Module):\n    of = '{folder}'\n")
    assert [find("model", f"{folder}/json.py:Net", nn.Module).of for folder in ("a", "b")] == ["a", "b"]
    import json

    assert json.dumps([1]) == "[1]"


def test_a_file_in_a_package_may_name_that_package_as_in_its_own_repository(here: Path) -> None:
    """As ``from model import common`` in model/net.py, wherever the command runs."""
    for folder in ("repository/their_model/archs", "repository/their_util"):
        (here / folder).mkdir(parents=True)
    (here / "repository/their_model/common.py").write_text("WORD = 'common'\n")
    (here / "repository/their_util/tools.py").write_text("WORD = 'tools'\n")
    file = here / "repository/their_model/archs/net.py"
    file.write_text(
        "from torch import nn\nfrom their_model import common\nfrom their_util.tools import WORD\n"
        "class Net(nn.Module):\n    words = common.WORD, WORD\n"
    )
    assert find("model", f"{file}:Net", nn.Module).words == ("common", "tools")
    file.with_name("gone.py").write_text("import their_model.nothing\n")
    with pytest.raises(ConfigError, match=r"No module named 'their_model\.nothing'"):
        find("model", f"{file.with_name('gone.py')}:Net", nn.Module)


@pytest.mark.parametrize(
    ("name", "label"),
    [("a/b.c.py:Net", "b.c"), ("a.b:Model", "b"), ("a.b:MODEL", "b"), ("a/b.py:Wide", "Wide"), ("a.b:Wide", "Wide")],
)
def test_tables_call_it_by_its_class_or_by_its_file(name: str, label: str) -> None:
    assert label_of(name) == label


def test_a_module_is_found_in_the_current_folder(here: Path) -> None:
    (here / "loose.py").write_text("from torch import nn\nclass Net(nn.Module):\n    pass\n")
    assert find("model", "loose:Net", nn.Module).__module__ == "loose"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.py:Net", "there is no file .*gone.py; expected path/to/file.py:Class"),
        ("nets.py:Net", "there is no file .*nets.py"),  # a folder
        ("nets/my-net.v2.py:Missing", r"my-net\.v2\.py has no class Missing derived from Module; it has Net, Other"),
        ("nets/my-net.v2.py:function", "has no class function derived from Module"),
        ("nets/beside.py:WORD", "has no class WORD derived from Module$"),
        ("nets:Net", "nets has no class Net"),  # a folder that Python takes for a package
        ("elsewhere.net:Net", "there is no module 'elsewhere'.*PYTHONPATH.*path/to/file.py:Class"),
        ("wrong.py:Net", "cannot be imported: SyntaxError.*--debug"),
        ("needs.py:Net", "cannot be imported: ModuleNotFoundError: No module named 'needs_it'"),
        ("opens.py:Net", "cannot be imported: FileNotFoundError"),
        ("script.py:Net", "cannot be imported: SystemExit: usage"),
        ("n" * 300 + ".py:Net", "cannot be imported: OSError.*name too long"),
    ],
)
def test_a_mistake_is_one_line_each_time(here: Path, name: str, reason: str) -> None:
    (here / "nets.py").mkdir()
    (here / "wrong.py").write_text("class Net(:\n")
    (here / "needs.py").write_text("import needs_it\n")
    (here / "opens.py").write_text("open('absent.txt')\n")
    (here / "script.py").write_text("raise SystemExit('usage')\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=reason) as error:
            find("model", name, nn.Module)
        assert "\n" not in str(error.value)


def test_a_file_that_was_mended_is_imported_again(here: Path) -> None:
    (here / "late.py").write_text("raise ValueError('not yet')\n")
    with pytest.raises(ConfigError, match="not yet"):
        find("model", "late.py:Net", nn.Module)
    (here / "late.py").write_text("from torch import nn\nclass Net(nn.Module):\n    mended = True\n")
    assert find("model", "late.py:Net", nn.Module).mended


@pytest.mark.parametrize("name", ["a:B", "a.b_1:C", "a.py:B", "../a b/c-d.py:E", "/x/y.py:Z", "C:\\nets\\net.py:Net"])
def test_these_are_names_of_plugins(name: str) -> None:
    assert is_plugin(name)


@pytest.mark.parametrize("name", ["Net", "a.b", "a b:C", "../a:B", "a:B.c", ":B", "a:", ".py:B", "a.py", "a\n.py:B"])
def test_these_are_none(name: str) -> None:
    assert not is_plugin(name)

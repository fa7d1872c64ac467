"""YAML as configs have it: plain scalars as people read them, ``1e-3`` a number, ``no`` and ``010`` none."""

import re
from collections.abc import Collection, Hashable
from typing import Any

import yaml

NOT_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float")}


class _Loader(yaml.SafeLoader):
    """SafeLoader with our plain scalars; duplicate keys and aliases are refused."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own protocol)

    def __init__(self, text: str, text_keys: Collection[str] = ()):
        super().__init__(text)
        self.text_keys = text_keys

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value in self.text_keys:
                    _make_text(value)
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "aliases are not used here", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _make_text(node: yaml.Node) -> None:
    """Makes every scalar but null in ``node`` the text it was typed as: ``2024`` names a folder, ``1e5`` another."""
    if isinstance(node, yaml.MappingNode):  # names with numbers
        for key, _ in node.value:
            _make_text(key)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _make_text(item)
    elif node.tag in NOT_TEXT:
        node.tag = "tag:yaml.org,2002:str"


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes text which our plain scalars would make something else."""


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false|True|False", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]{0,29})", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def read_yaml(text: str, text_keys: Collection[str] = ()) -> Any:
    """The document in ``text``; what its ``text_keys`` hold is text whatever it looks like.

    Raises yaml.YAMLError, AttributeError, KeyError, RecursionError or ValueError.
    """
    loader = _Loader(text, text_keys)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def write_yaml(values: dict[str, Any]) -> str:
    """``values`` as text that `read_yaml` makes the same of."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)

"""The lines of an option file: what they say, and an account of what became of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssiu.errors import ConfigError, first_names, one_line

SECTIONS = ("datasets", "network_g", "path", "train", "val", "logger")
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list"}

Outcome = Literal["carried", "changed", "without counterpart"]


@dataclass(frozen=True)
class Line:
    """What became of one line: ``key`` has the sections that it stands in, as in ``train.total_iter``."""

    key: str
    value: Any
    outcome: Outcome
    note: str

    def __str__(self) -> str:
        value = "~" if self.value is None else self.value
        return one_line(f"{self.key}: {value!s:.80} ({self.note})")


class Options:
    """The lines of an option file by their key, and the config that they have made so far.

    Raises ConfigError (78) for ``tree``, the content of the file ``path``, that is no option file.
    """

    def __init__(self, path: Path, tree: dict[str, Any]):
        for section in SECTIONS:
            if not isinstance(tree.get(section) or {}, dict):
                raise ConfigError(f"{path}: '{section}': expected a section, got {tree[section]!r:.80}")
        if not tree.get("network_g") or not tree.get("datasets"):
            raise ConfigError(
                f"{path} is not an option file of BasicSR: expected the sections network_g and datasets, got "
                f"{first_names(tree) or 'nothing'}"
            )
        self.path, self.tree = path, tree
        self.config: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._lines: dict[str, Line] = {}
        for key, value in _leaves("", tree):
            if key in self._values:
                raise ConfigError(f"{path}: '{key}' is given twice")
            self._values[key] = value

    def section(self, name: str) -> dict[str, Any]:
        """What stands in a section, of which there may be none."""
        return self.tree.get(name) or {}

    def keys(self, section: str = "") -> list[str]:
        """The keys of all lines, or of those of a section, in their order."""
        return [key for key in self._values if not section or key == section or key.startswith(f"{section}.")]

    def get(self, key: str, kind: type = object, default: Any = None) -> Any:
        """The value of a line, ``default`` for one that is absent or null; ConfigError (78) for another ``kind``."""
        value = self._values.get(key)
        return default if value is None else self._as(key, kind, value)

    def numbers(self, key: str, kind: type, default: list[Any]) -> list[Any]:
        """The value of a line that is a list of numbers."""
        return [self._as(key, kind, each) for each in self.get(key, list, default)]

    def _as(self, key: str, kind: type, value: Any) -> Any:
        if kind is int and isinstance(value, float) and value.is_integer():  # !!float 5e3
            value = int(value)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is str and type(value) in (int, float):
            value = str(value)
        if kind is not object and type(value) is not kind:
            raise self.error(key, EXPECTED[kind], value)
        return value

    def error(self, key: str, expected: str, got: Any) -> ConfigError:
        """The error of a line that cannot be used."""
        return ConfigError(f"{self.path}: '{key}': expected {expected}, got {got!r:.80}")

    def carried(self, key: str, note: str = "", **config: Any) -> None:
        """The line means the same here, where the keys ``config`` say it; these hold even if it is absent."""
        self.config |= config
        said = [f"{name}: {value}" for name, value in config.items()] + [note]
        self._account(key, "carried", "; ".join(filter(None, said)))

    def changed(self, key: str, why: str, **config: Any) -> None:
        """The line means nearly the same here."""
        self.config |= config
        said = [f"{name}: {value}" for name, value in config.items()] + [why]
        self._account(key, "changed", "; ".join(said))

    def lost(self, section: str, why: str) -> None:
        """The line, or whatever is left of a section, has no counterpart."""
        for key in self.keys(section):
            if key not in self._lines:
                self._account(key, "without counterpart", why)

    def _account(self, key: str, outcome: Outcome, note: str) -> None:
        if key in self._values:
            self._lines[key] = Line(key, self._values[key], outcome, note)

    def unaccounted(self) -> Iterator[tuple[str, Any]]:
        """The lines that nobody has asked for."""
        yield from [(key, value) for key, value in self._values.items() if key not in self._lines]

    def lines(self) -> list[Line]:
        """The account of all lines, in their order."""
        return [self._lines[key] for key in self._values]


def _leaves(above: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The lines below a section; a list, and an argument of the network, is one line."""
    if above and (above.startswith("network_g.") or not isinstance(value, dict) or not value):
        yield above, value
        return
    for name, each in value.items():
        yield from _leaves(f"{above}.{name}" if above else name, each)

"""What is known of data sets by name, and where they and the authors' weights come from: `catalog.yaml`."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssiu.errors import ConfigError, first_line
from ssiu.files import require_file

CATALOG_FILE = Path(__file__).with_name("catalog.yaml")  # explains every key
MOD12 = " mod12"  # ends the name of the copy of a set that is cropped to multiples of 12
MOD2 = " mod2"  # of one that is cropped to even sides


class Entry(BaseModel):
    """A part of the catalogue; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Entry):
    """Where a file is, and what is known of it."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    about: Annotated[int, Field(gt=0)]
    digest: Annotated[str, Field(pattern=r"^((sha256|md5|git):[0-9a-f]+)?$")] = ""


class FolderFacts(Entry):
    """The pixels of a folder: how many, and their digest."""

    pixels: int
    sha256: str


class Part(Entry):
    """The numbered images of a set that are in DF2K, too."""

    first: int
    last: int
    digits: int
    added: int


class KnownSet(Entry):
    """A data set."""

    use: Literal["test", "training", "validation"]
    images: int
    also: tuple[str, ...] = ()
    get: str = ""
    hr: str
    members: str = ""
    page: str = ""
    licence: str
    parts: dict[str, Part] = {}
    copies: dict[Literal["usual", "mod12"], dict[str, FolderFacts]] = {}

    def names_of_part(self, name: str) -> dict[str, str]:
        """Names in a part -> names here: Flickr2K's 000001 is DF2K's 0901."""
        part = self.parts[name]
        return {f"{i:0{part.digits}}": f"{i + part.added:04}" for i in range(part.first, part.last + 1)}

    def stems(self) -> set[str]:
        """All names of a set that is made of parts."""
        return {new for name in self.parts for new in self.names_of_part(name).values()}


class Archive(Entry):
    """Sets in one file, from the first of its sources that gives it; ``unpacked`` is the bytes of their images."""

    sets: tuple[str, ...]
    unpacked: int
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]


class ReleasedWeights(Entry):
    """The authors' files by scale."""

    licence: str
    files: dict[int, Source]


class Catalog(Entry):
    """All of `catalog.yaml`, where every key is explained."""

    sets: dict[str, KnownSet]
    archives: dict[str, Archive]
    weights: ReleasedWeights

    @model_validator(mode="after")
    def _sets_of_archives(self) -> Self:
        for name, archive in self.archives.items():
            if unknown := [each for each in archive.sets if each not in self.sets]:
                raise ValueError(f"archive '{name}' holds {', '.join(unknown)}, which 'sets' does not have")
        return self


def read_catalog(path: Path = CATALOG_FILE) -> Catalog:
    """Raises MissingInputError (66), or ConfigError (78) naming the key that is wrong."""
    require_file(path, "a file like ssiu/data/catalog.yaml")
    try:
        return Catalog.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: key '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8, a 13th month, 5,000 brackets
        raise ConfigError(f"{path}: not YAML ({first_line(error)})") from None


CATALOG = read_catalog()
SETS = CATALOG.sets
TEST_SETS = tuple(name for name, each in SETS.items() if each.use == "test")
"""The usual test sets, in the order of the papers' tables."""

_NAMES = {spelling.lower(): name for name, each in SETS.items() for spelling in (name, *each.also)}


def usual_name(set_name: str) -> str:
    """The name without that of the copy: ``Set5`` of ``Set5 mod12``."""
    return set_name.removesuffix(MOD12).removesuffix(MOD2)


def known_name(set_name: str) -> str:
    """``bsd100 MOD12`` in our spelling, ``B100 mod12``, also before the name of an image; other names as they are."""
    set_name, slash, image = set_name.partition("/")
    copy = next((copy for copy in (MOD12, MOD2) if set_name.lower().endswith(copy)), "")
    known = _NAMES.get(set_name[: len(set_name) - len(copy)].lower())
    return (known + copy if known else set_name) + slash + image


def facts_of(set_name: str) -> dict[str, FolderFacts]:
    """The facts about ``HR``, ``x2``, ... of a copy, such as ``Set5 mod12``; empty where none are known."""
    known = SETS.get(usual_name(set_name))
    if known is None:
        return {}
    if set_name.endswith(MOD2):
        return {}
    return known.copies.get("mod12" if set_name.endswith(MOD12) else "usual", {})


def spellings(set_name: str) -> tuple[str, ...]:
    """All names of a set, the given one first."""
    name = known_name(set_name)
    return tuple(dict.fromkeys((set_name, name, *SETS[name].also))) if name in SETS else (set_name,)

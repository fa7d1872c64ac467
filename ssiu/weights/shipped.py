"""Where the weights that come with this project lie, and the authors' once they are downloaded."""

from pathlib import Path

from ssiu.files import PACKAGE, user_cache_folder

# of a clone, of an installed package, and where `ssiu download weights` puts the authors' for the latter
SHIPPED = (PACKAGE.parent / "pretrain_model", PACKAGE / "pretrain_model", user_cache_folder("weights"))


def places(name: str) -> list[Path]:
    """Where a weights file of this name is looked for."""
    return [folder / name for folder in SHIPPED]


def shipped_file(name: str) -> Path | None:
    """The weights file of this name from where weights are looked for, if it is there."""
    return next((path for path in places(name) if path.is_file()), None)


def as_shipped(path: Path) -> Path:
    """``path``, or the shipped file where there is none: ``pretrain_model/NAME`` and ``NAME`` name it in any folder."""
    if path.parent not in (Path(), Path("pretrain_model")) or path.exists():
        return path
    return shipped_file(path.name) or path


def weights_folder() -> Path:
    """Where downloaded weights belong: pretrain_model of a clone, else the user's cache; both are looked into."""
    return SHIPPED[0] if SHIPPED[0].is_dir() else SHIPPED[-1]

"""Folders that an export writes: its own files are replaced the second time, and nothing else is touched."""

from collections.abc import Mapping
from pathlib import Path

from ssiu.errors import OutputError
from ssiu.files import contents, make_folder, remove_leftovers, write_atomically


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Writes ``files`` (path in ``folder`` -> content) and returns them.

    Raises OutputError (73) for a folder with others than those of an earlier export, SaveError (74).
    """
    there = {name for name in contents(folder, "**/*") if (folder / name).is_file()}
    foreign = sorted(name for name in there - files.keys() if "__pycache__" not in name)
    if foreign:
        raise OutputError(f"{folder} holds other files, such as {foreign[0]}; name an empty or a new folder")
    for name, content in files.items():
        remove_leftovers(make_folder((folder / name).parent))
        write_atomically(folder / name, content.encode() if isinstance(content, str) else content)
    return [folder / name for name in files]

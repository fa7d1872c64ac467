"""What single values of the configuration may be, and how they may be written."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ssiu.plugins import is_plugin

MAX_NAME_BYTES = 255  # of a file or folder, on every usual file system


def flag(value: Any) -> Any:
    """The released configs write some switches as 0 and 1."""
    return bool(value) if type(value) is int and value in (0, 1) else value


def listed(value: Any) -> Any:
    """``eval_sets: Set5`` and ``gpu_ids: 0`` mean lists of one."""
    return [value] if isinstance(value, (str, int)) else [] if value is None else value


def _usable_path(value: str) -> str:
    """No call of the system takes NUL or a name that is too long; reports and configs are UTF-8, errors one line."""
    if re.search(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]", value):
        raise ValueError("a path in UTF-8 without control characters")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in re.split(r"[/\\]", value)):
        raise ValueError(f"names of at most {MAX_NAME_BYTES} bytes")
    return value


def _plugin_name(value: str) -> str:
    if not is_plugin(value):
        raise ValueError("package.module:Class or FILE.py:Class")
    return value


def _plain_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or re.search(r"[/\\]", value):
        raise ValueError("a plain folder name without a path")
    return _usable_path(value)


def folders_once(value: Any) -> Any:
    if isinstance(value, list) and (not value or len(set(value)) < len(value)):
        raise ValueError("one folder or more, each named once")
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _set_or_image(value: str) -> str:
    """``Set5``, or one image of it: ``Set5/bird``."""
    set_name, slash, image = value.partition("/")
    if slash and (not image or ".." in image.split("/")):
        raise ValueError("names of sets, or of single images such as Set5/bird")
    _plain_name(set_name)
    return _usable_path(value)


def sets_in_order(value: Any) -> Any:
    """One set is its name however it is written, and several have one order: the samples depend on it."""
    if isinstance(value, str):
        return value
    if not value or len({name.lower() for name in value}) < len(value):
        raise ValueError("one set or more, each named once")
    if len(value) == 1:
        return next(iter(value))
    return {name: value[name] for name in sorted(value)} if isinstance(value, dict) else sorted(value)


Flag = Annotated[bool, BeforeValidator(flag, json_schema_input_type=bool | Literal[0, 1])]
GpuId = Annotated[int, Field(ge=0)]
FilePath = Annotated[str, AfterValidator(os.path.expanduser), AfterValidator(_usable_path)]
FolderName = Annotated[str, AfterValidator(_plain_name)]
ClassName = Annotated[str, AfterValidator(_plugin_name)]
SetName = Annotated[str, AfterValidator(_set_or_image)]
SetNames = Annotated[list[SetName], BeforeValidator(listed, json_schema_input_type=list[SetName] | SetName | None)]

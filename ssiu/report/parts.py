"""What the pages have in common: the files of this folder that they are put together from."""

from importlib.resources import files
from string import Template


def page_part(name: str) -> str:
    """The text of a file of this package, such as ``report/slider.js``."""
    return (files("ssiu") / name).read_text(encoding="utf-8")


def encoded(text: str) -> bytes:
    """``text`` for a file. What is no UTF-8, as the name of a file may be, is escaped as it is on the terminal."""
    return text.encode(errors="backslashreplace")


def fill_page(template: str, **values: str) -> str:
    """The page ``template`` with ``values``, the colours that all pages share, and the slider where it has one."""
    shared = {key: f"report/{key.replace('_', '.')}" for key in ("base_css", "slider_css", "slider_js")}
    return Template(page_part(template)).substitute({key: page_part(name) for key, name in shared.items()}, **values)

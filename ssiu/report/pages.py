"""Pages from templates: jinja2 escapes their values, and styles and scripts stand in them, so a page is one file."""

from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssiu.errors import one_line
from ssiu.report.tables import PLACES, Table, parts


def source(name: str) -> str:
    """The text of a file of this package, such as ``report/slider.js``."""
    return (files("ssiu") / name).read_text(encoding="utf-8")


def encoded(text: str) -> bytes:
    """``text`` for a file. What is no UTF-8, as the name of a file may be, is escaped as it is on the terminal."""
    return text.encode(errors="backslashreplace")


_TEMPLATES = Environment(
    loader=PackageLoader("ssiu", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals |= {"places": PLACES, "source": source}
_TEMPLATES.filters |= {"one_line": one_line, "parts": parts}


def render(template: str, **values: object) -> bytes:
    """The file ``template`` of this package, such as ``web/index.html``, with ``values``."""
    return encoded(_TEMPLATES.get_template(template).render(values))


def tables_page(title: str, tables: Sequence[Table], facts: Mapping[str, str] | None = None) -> bytes:
    """A page of ``tables`` with their notes, below ``facts`` such as the command that made them."""
    return render("report/tables.html", title=title, tables=tables, facts=facts or {})

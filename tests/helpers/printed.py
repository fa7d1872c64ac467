"""What a table prints in its cells, without the marks of places."""

from ssiu.report.tables import Cell, Table


def printed(content: Cell) -> str:
    return " / ".join(map(str, content if isinstance(content, tuple) else (content,)))


def printed_rows(table: Table) -> list[list[str]]:
    return [[printed(content) for content in row] for row in table.rows]

"""Progress where there is no terminal: a plain line every while, and nothing for what is quick."""

import io

import pytest

from ssiu import progress
from ssiu.progress import Progress


def lines_of(count: int, **options: object) -> list[str]:
    written = io.StringIO()
    with Progress(total=count, unit="images", file=written, miniters=1, **options) as bar:
        for _ in range(count):
            bar.set_postfix_str("what it is at")
            bar.update()
    return written.getvalue().splitlines()


def test_a_quick_job_says_nothing() -> None:
    assert lines_of(5) == []


def test_a_long_one_writes_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    lines = lines_of(4, desc="decoding")
    assert lines[-1].startswith("decoding: 100%, 4 of 4 images, after 00:00")
    assert any(line.startswith("decoding: 50%, 2 of 4 images") for line in lines)
    assert not any("\r" in line or "\x1b" in line or "|" in line for line in lines)

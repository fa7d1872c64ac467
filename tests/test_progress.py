"""Progress where there is no terminal: a plain line every while, and nothing for what is quick; and log lines."""

import io
import logging

import pytest

from ssiu import progress
from ssiu.progress import Progress, log_to_console


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


def test_more_than_was_expected_leaves_no_time_and_passes_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    written = io.StringIO()
    with Progress(total=2, unit="images", file=written, miniters=1) as bar:
        for _ in range(5):
            bar.update()
    assert "100%, 2 of 2 images" in written.getvalue() and "-00:" not in written.getvalue()
    assert all("of 2 images" in line and "250%" not in line for line in written.getvalue().splitlines())


def test_work_with_log_lines_of_its_own_writes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    assert lines_of(4, lines=False) == []


def test_the_log_is_shown_once_without_what_ends_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    log = logging.getLogger("ssiu")
    monkeypatch.setattr(log, "propagate", False)
    for _ in range(2):
        log_to_console()
    log.info("decoded 10 images")
    log.error("out of memory")
    assert capsys.readouterr().out == "decoded 10 images\n"

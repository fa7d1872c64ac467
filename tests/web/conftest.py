"""The page of `ssiu export web`, opened in a real browser."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny
from torch import nn
from web_site import LONGEST, Page, export_site, plain_server, serving


@pytest.fixture(scope="session")
def networks() -> dict[int, nn.Module]:
    return {scale: tiny(scale).eval() for scale in (2, 4)}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What XDG_CACHE_HOME names in all tests here, in every worker, which therefore export a network once."""
    run = tmp_path_factory.getbasetemp()
    cache = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "web-cache"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, networks: dict[int, nn.Module], cache: Path) -> Path:
    named = {f"x{scale}": network for scale, network in networks.items()}
    return export_site(tmp_path_factory.mktemp("web") / "site", named, cache)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Without threads: these wait for one another on a machine that is busy."""
    with serving(plain_server(site)) as url:
        yield url


@pytest.fixture(scope="module")
def opened(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end nothing may have been asked of anybody else, nor be reported on the console."""
    contexts, complaints = [], []

    def open_page(url: str, before: Callable[[Any], object] = lambda context: None, **options: object) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(LONGEST)
        foreign = lambda request: not request.url.startswith((url, "blob:", "data:"))  # noqa: E731
        context.on("request", lambda request: complaints.extend([request.url] * foreign(request)))
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        before(context)
        page = context.new_page()
        page.goto(url)
        contexts.append(context)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [
        said for said in complaints if "net::ERR_FAILED" not in said
    ] == []  # that is said where there is no network


@pytest.fixture(scope="module")
def page(opened: Callable[..., Page], address: str) -> Page:
    """One for the tests that leave it as it was."""
    return opened(address)

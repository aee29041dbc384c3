"""Open pages in Chromium: their requests, console messages and accessibility violations (axe-core)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import CHROMIUM

SERIOUS = ("serious", "critical")
COLOURS = "color-contrast"  # the rule that a dark page can break where the light one does not
SHARED: list[Browser] = []  # the browser of the module, if it uses the fixture


@pytest.fixture(scope="module")
def chromium() -> Iterator[None]:
    """Start one Chromium for all pages that a module opens: `pytestmark = pytest.mark.usefixtures("chromium")`."""
    with _launched() as browser:
        SHARED.append(browser)
        yield
        SHARED.pop()


@contextmanager
def _launched() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab() -> Iterator[Any]:
    """Yield an empty page, for an address on a server."""
    with nullcontext(SHARED[0]) if SHARED else _launched() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        yield page
        page.close()


@contextmanager
def opened(file: Path, dark: bool = False, width: int = 1100) -> Iterator[Any]:
    """Yield the page; on exit assert that it logged nothing, raised nothing and requested nothing but itself."""
    messages, requests = [], []
    with nullcontext(SHARED[0]) if SHARED else _launched() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        yield page
        page.close()
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]


def faults(page: Any, *rules: str) -> list[str]:
    """Return axe-core's serious violations, of these rules or of all, each with the first element that has it."""
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    violations = Axe().run(page, options=options)["violations"]
    return [f"{item['id']}: {item['nodes'][0]['html'][:300]}" for item in violations if item["impact"] in SERIOUS]


def scrolls_sideways(page: Any) -> bool:
    """Tell whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

"""Pages opened in Chromium as a reader would: what they ask the network, what they complain of, and what axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHROMIUM

SERIOUS = ("serious", "critical")


@contextmanager
def opened(file: Path, dark: bool = False, width: int = 1100) -> Iterator[Any]:
    """Yield the page; at the end it must not have written to the console, failed, or asked for anything but itself."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    said, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


def faults(page: Any) -> list[str]:
    """Return the serious faults that axe-core finds, each with the first element that has it."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page)["violations"]
    return [f"{item['id']}: {item['nodes'][0]['html'][:300]}" for item in found if item["impact"] in SERIOUS]


def scrolls_sideways(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

"""The page in Chromium: labelled by the keyboard alone, readable by everyone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from darkroom.data import label_fixes
from darkroom.labelling import decisions, inbox, queues, server
from darkroom.labelling.growth import Measured
from darkroom.labelling.meter import Meter
from darkroom.labelling.pictures import Pictures
from tests.browser import SHARED, chromium, faults, scrolls_sideways  # noqa: F401
from tests.labelling import label_project
from tests.labelling.label_project import FIXES, LOG

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("chromium")]


@contextmanager
def page_of(session: Any, dark: bool = False, width: int = 1100, meter: Meter | None = None) -> Iterator[Any]:
    """Serve the page of a session, and open it; on exit assert that nothing failed and nothing was loaded from elsewhere."""
    listener, token = server.bind(0), server.new_token()
    port = listener.getsockname()[1]
    notes = {"fixes": str(FIXES), "log": str(LOG), "quarantined": queues.quarantined(label_project.ROWS), "inbox": "new",
             "add": "darkroom label --inbox new --add", "table": "new/labels.csv",
             "measures": "transfer/x" if meter else ""}  # fmt: skip
    application = server.app(session, Pictures(Path("photos")), token, port, notes, meter)
    running = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    page = SHARED[0].new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"http://127.0.0.1:{port}/{token}/")
    shown(page)
    yield page
    page.close()
    running.should_exit = True
    thread.join()
    if meter:
        meter.close()
    assert messages == []
    assert all(address.startswith(f"http://127.0.0.1:{port}/{token}/") for address in requests)


def until(page: Any, condition: str) -> None:
    """Wait until an expression of the page is true; `wait_for_function` would need eval, which the page's policy forbids."""
    for _ in range(1_000):
        if page.evaluate(condition):
            return
        time.sleep(0.01)
    raise TimeoutError(condition)


def shown(page: Any) -> str:
    """Return the path of the image, once its picture is there."""
    until(page, "document.getElementById('image').complete && document.getElementById('image').naturalWidth > 0")
    return page.inner_text("#path")


def press(page: Any, *keys: str) -> None:
    """Press keys, each once what the one before it did is shown."""
    for key in keys:
        before = page.inner_text("#status")
        page.keyboard.press(key)
        until(
            page, f"document.getElementById('work').hidden || document.getElementById('status').innerText != {json.dumps(before)}"
        )
        if not page.is_hidden("#work"):
            shown(page)


def growing() -> Meter:
    """Return a meter that measures after each label, 5 points more each time."""
    measured: list[Measured] = []

    def measure(count: int, labels: Any, new: Any) -> None:
        share = 0.8 + 0.05 * count
        measured.append(Measured(count, share, (share - 0.1, share + 0.05), share - 0.8, (0.0, 0.1), 3, 0.5, (0.1, 0.9)))

    return Meter(lambda check: (SimpleNamespace(measured=measured, measure=measure), lambda: (["a", "b"], {})), every=1)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    label_project.enter(tmp_path, monkeypatch)


def test_a_queue_is_labelled_by_the_keyboard_alone():
    """One key gives a class, others skip, go back and undo; a new class of the inbox is typed, which images of the source
    cannot have, and the end says what comes next."""
    with page_of(label_project.session()) as page:
        assert shown(page) == "cat/1.png"
        press(page, "2")
        assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
        assert shown(page) == "cat/3.png"
        assert "suggested" not in page.inner_text("#about")  # a test image
        page.keyboard.press("ArrowLeft")
        assert shown(page) == "cat/1.png"
        assert "given: dog" in page.inner_text("#about")
        press(page, "1")
        assert label_fixes.read(FIXES) == {"cat/1.png": "cat"}
        press(page, "Backspace")
        assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
        press(page, "ArrowRight")
        assert shown(page) == "cat/3.png"
        press(page, "1")
        assert page.is_visible("#done")
        page.get_by_role("button", name="New images").focus()
        page.keyboard.press("Enter")
        until(page, "document.getElementById('path').innerText == '0.png'")
        shown(page)
        page.keyboard.press("/")
        page.keyboard.type("emu 12")
        press(page, "Enter")
        assert inbox.read(Path("new")) == {"0.png": "emu 12"}
        assert page.get_by_role("button", name="emu 12").is_visible()
        press(page, "3", "2")
        assert inbox.read(Path("new")) == {"0.png": "emu 12", "1.png": "emu 12", "2.png": "dog"}
        assert "dvc repro" in page.inner_text(".next")
        page.get_by_role("button", name="Conflicts").click()
        until(page, "document.getElementById('path').innerText == 'cat/both.png'")
        shown(page)
        assert [button.inner_text() for button in page.query_selector_all("#classes button")] == ["1cat", "2dog"]
        before = page.inner_text("#status")
        page.keyboard.press("3")
        press(page, "2")
        assert page.inner_text("#status") == "cat/both.png: dog" != before
    assert {item.name for item in decisions.read(LOG)} == {"Ada"}


def test_keys_can_be_switched_off():
    """As WCAG 2.1.4 asks; then buttons give classes."""
    with page_of(label_project.session()) as page:
        page.uncheck("#keys")
        page.keyboard.press("2")
        page.get_by_role("button", name="dog, suggested").click()
        until(page, "document.getElementById('path').innerText == 'cat/3.png'")
        assert [item.label for item in decisions.read(LOG)] == ["dog"]


@pytest.mark.parametrize(("dark", "width"), [(False, 1100), (True, 390)])
def test_the_page_can_be_read_by_everyone(dark, width):
    """axe-core finds no serious fault, also in the dark and at the end of a queue, and the accuracy is there in words; a phone
    does not scroll sideways."""
    with page_of(label_project.session(), dark, width, growing()) as page:
        until(page, "document.querySelector('#growth-chart svg') !== null")
        assert faults(page) == []
        assert not scrolls_sideways(page)
        press(page, "2", "1")
        assert page.is_visible("#done")
        until(page, "document.getElementById('growth-text').innerText.startsWith('After 2 labels, 90.0% of 2 images')")
        assert faults(page) == []

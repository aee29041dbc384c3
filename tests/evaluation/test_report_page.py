"""The report opened in a browser."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation.report import page as report_of
from darkroom.evaluation.report.page import page
from tests.browser import faults, opened, scrolls_sideways
from tests.evaluation.example_report import findings


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return findings of three classes and the page that shows them."""
    found = findings()
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(found), encoding="utf-8")
    return found, file


def shown(browser) -> set[int]:
    """Return the numbers of the test images that the page shows, all of them."""
    while browser.locator("#more").is_visible():
        browser.click("#more")
    return {
        int(number) for number in browser.eval_on_selector_all("#thumbs li", "items => items.map((item) => item.dataset.image)")
    }


def cell(browser, row: int, column: int):
    return browser.locator(f"#matrix tbody tr:nth-child({row + 1}) td").nth(column)


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(report, dark):
    """Light and dark, contrast included; and the page is dark where it should be."""
    with opened(report[1], dark) as browser:
        assert faults(browser) == []
        red = browser.evaluate("+getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert red < 60 if dark else red > 200
        browser.locator("#thumbs button").first.click()
        assert browser.locator("#image").is_visible()
        assert faults(browser) == []


def test_a_cell_shows_its_images_and_no_others(report):
    """A click on each cell of the confusions shows the images of that class of which that was said, as many as it counts."""
    found, file = report
    said = found.answers["baseline"].argmax(1)
    with opened(file) as browser:
        for label in range(3):
            for other in range(3):
                there = cell(browser, label, other)
                expected = set(np.flatnonzero((found.labels == label) & (said == other)).tolist())
                assert int(there.inner_text() or 0) == len(expected)
                there.click()
                assert shown(browser) == expected
                assert f"{len(expected)} of 60 test images" in browser.inner_text("#count")


def test_the_images_of_another_model_can_be_seen(report):
    """Choosing a model counts its confusions anew, and a cell then shows its images."""
    found, file = report
    said = found.answers["transfer/x"].argmax(1)
    with opened(file) as browser:
        browser.select_option("#model", "1")
        expected = set(np.flatnonzero((found.labels == 1) & (said == 0)).tolist())
        assert int(cell(browser, 1, 0).inner_text() or 0) == len(expected)
        cell(browser, 1, 0).click()
        assert shown(browser) == expected


def test_the_keyboard_is_enough(report):
    """The matrix is one stop of the tab key; arrows move in it, Enter shows the images, and one of them opens and closes."""
    found, file = report
    said = found.answers["baseline"].argmax(1)
    with opened(file) as browser:
        browser.focus("#model")
        browser.keyboard.press("Tab")
        browser.keyboard.press("Tab")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
            browser.keyboard.press(key)
        assert browser.inner_text("#readout").startswith("cat, said dog")
        browser.keyboard.press("Enter")
        expected = set(np.flatnonzero((found.labels == 0) & (said == 1)).tolist())
        assert expected
        assert shown(browser) == expected
        browser.focus("#thumbs button")
        browser.keyboard.press("Enter")
        assert browser.locator("#image").is_visible()
        browser.keyboard.press("Escape")
        assert not browser.locator("#image").is_visible()
        browser.keyboard.press("Home")
        browser.focus("body")
    with opened(file) as browser:
        browser.keyboard.press("Tab")
        assert browser.evaluate("document.activeElement.className") == "skip"


def test_images_are_filtered(report):
    """By class, by right and wrong, by confidence; the button shows all again."""
    found, file = report
    given = found.answers["baseline"]
    said, sure = given.argmax(1), np.rint(1000 * given.max(1))
    with opened(file) as browser:
        browser.select_option("#right", "0")
        assert shown(browser) == set(np.flatnonzero(said != found.labels).tolist())
        browser.select_option("#label", "2")
        assert shown(browser) == set(np.flatnonzero((said != found.labels) & (found.labels == 2)).tolist())
        browser.click("#reset")
        browser.fill("#from", "80")
        assert shown(browser) == set(np.flatnonzero(sure >= 800).tolist())
        browser.click("#reset")
        assert len(shown(browser)) == 60


def test_a_picture_is_that_of_its_image(report):
    """What is seen at an image's place has the brightness of that image: made-up images of a class share a shade of grey."""
    import io

    from PIL import Image

    found, file = report
    with opened(file) as browser:
        for number in (0, 1, 2, 31):
            seen = Image.open(io.BytesIO(browser.locator(f'#thumbs li[data-image="{number}"] button').screenshot()))
            assert abs(seen.convert("L").getpixel((seen.width // 2, seen.height // 2)) - int(found.pixels[number, 9, 9, 0])) < 12


def test_tables_are_sorted_by_a_column(report):
    """A click on a heading sorts by it, largest first, a second one turns it round."""
    with opened(report[1]) as browser:
        table = browser.locator("table.sortable").nth(1)
        for order in (True, False):
            table.locator("thead button").nth(3).click()
            values = [float(row) for row in table.locator("tbody tr td:nth-child(4)").all_inner_texts()]
            assert values == sorted(values, reverse=order)


def test_a_phone_scrolls_in_one_direction(report):
    """At 360 pixels the page is no wider than the screen, and nothing serious is wrong with it."""
    with opened(report[1], width=360) as browser:
        assert not scrolls_sideways(browser)
        assert faults(browser) == []


def test_print_leaves_out_controls_and_cuts_nothing(report):
    """On paper there are no controls, and no table is cut off at its height."""
    with opened(report[1], width=720) as browser:  # A4 without margins
        browser.emulate_media(media="print")
        assert not scrolls_sideways(browser)
        assert not browser.locator("#reset").is_visible()
        assert not browser.locator("nav").is_visible()
        assert browser.locator("#matrix").is_visible()


def test_a_hundred_classes_can_be_explored(tmp_path):
    """The matrix stays a map of the classes: a click and the keys work in it, and the page does not scroll sideways."""
    labels = np.arange(2000) % 100
    found = findings([f"class {i}" for i in range(100)], labels, 0.7)
    (tmp_path / "report.html").write_text(page(found), encoding="utf-8")
    said = found.answers["baseline"].argmax(1)
    with opened(tmp_path / "report.html") as browser:
        assert not scrolls_sideways(browser)
        cell(browser, 42, 42).click()
        assert shown(browser) == set(np.flatnonzero((labels == 42) & (said == 42)).tolist())


def test_a_matrix_without_numbers_has_no_serious_fault(tmp_path):
    """From 25 classes on cells are small and bare; what they count is in their names (100 classes take axe-core minutes)."""
    (tmp_path / "report.html").write_text(page(findings([f"class {i}" for i in range(25)])), encoding="utf-8")
    with opened(tmp_path / "report.html") as browser:
        assert "spread" in browser.get_attribute("#matrix", "class")
        assert faults(browser) == []
        assert browser.locator("#matrix td[aria-label*=images]").count() == 25 * 25


def test_of_very_many_classes_the_most_confused_are_shown(tmp_path):
    """Of 400 classes the matrix has 150, and a cell still shows the images of its own classes, for another model too."""
    labels = np.arange(800) % 400
    found = findings([f"class {i}" for i in range(400)], labels, 0.7)
    text = page(found)
    assert len(text.encode()) < 5 * 2**20
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    matrix = np.array(found.details["models"]["baseline"]["confusion_matrix"])
    shown_classes = report_of._worst(matrix, report_of.MATRIX)
    with opened(tmp_path / "report.html") as browser:
        assert "the 150 with most mistakes" in browser.inner_text("main")
        for model, name in enumerate(("baseline", "transfer/x")):
            browser.select_option("#model", str(model))
            said = found.answers[name].argmax(1)
            cell(browser, 90, 90).click()
            own = shown_classes[90]
            assert shown(browser) == set(np.flatnonzero((labels == own) & (said == own)).tolist())

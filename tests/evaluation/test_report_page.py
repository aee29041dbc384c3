"""The report in a browser."""

from __future__ import annotations

import dataclasses
import io
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from darkroom.evaluation.report import page as report_page
from darkroom.evaluation.report import source_files
from darkroom.evaluation.report.page import most_confused, page
from tests.browser import COLOURS, chromium, faults, opened, scrolls_sideways  # noqa: F401
from tests.evaluation.example_report import evaluation

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("chromium")]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return an evaluation of three classes and the page that shows it."""
    example = evaluation()
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(example), encoding="utf-8")
    return example, file


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
    rules = [COLOURS] if dark else []
    with opened(report[1], dark) as browser:
        assert faults(browser, *rules) == []
        red = browser.evaluate("+getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert red < 60 if dark else red > 200
        browser.locator("#thumbs button").first.click()
        assert browser.locator("#image").is_visible()
        assert faults(browser, *rules) == []


def test_a_cell_shows_its_images_and_no_others(report):
    """A click on each cell of the confusions shows the images of that class with that prediction, as many as
    it counts."""
    example, file = report
    predictions = example.probabilities["baseline"].argmax(1)
    with opened(file) as browser:
        for label in range(3):
            for other in range(3):
                target = cell(browser, label, other)
                expected = set(np.flatnonzero((example.labels == label) & (predictions == other)).tolist())
                assert int(target.inner_text() or 0) == len(expected)
                target.click()
                assert shown(browser) == expected
                assert f"{len(expected)} of 60 test images" in browser.inner_text("#count")


def test_the_images_of_another_model_can_be_seen(report):
    """Choosing a model counts its confusions anew, and a cell then shows its images."""
    example, file = report
    predictions = example.probabilities["transfer/x"].argmax(1)
    with opened(file) as browser:
        browser.select_option("#model", "1")
        expected = set(np.flatnonzero((example.labels == 1) & (predictions == 0)).tolist())
        assert int(cell(browser, 1, 0).inner_text() or 0) == len(expected)
        cell(browser, 1, 0).click()
        assert shown(browser) == expected


def test_the_keyboard_is_enough(report):
    """The matrix is one stop of the tab key; arrows move in it, Enter shows the images, and one of them opens
    and closes."""
    example, file = report
    predictions = example.probabilities["baseline"].argmax(1)
    with opened(file) as browser:
        browser.focus("#model")
        browser.keyboard.press("Tab")
        browser.keyboard.press("Tab")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
            browser.keyboard.press(key)
        assert browser.inner_text("#readout").startswith("cat, predicted dog")
        browser.keyboard.press("Enter")
        expected = set(np.flatnonzero((example.labels == 0) & (predictions == 1)).tolist())
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
    """By class, by correct and wrong, by confidence; the button shows all again."""
    example, file = report
    probabilities = example.probabilities["baseline"]
    predictions, confidence = probabilities.argmax(1), np.rint(1000 * probabilities.max(1))
    with opened(file) as browser:
        browser.select_option("#correct", "0")
        assert shown(browser) == set(np.flatnonzero(predictions != example.labels).tolist())
        browser.select_option("#label", "2")
        assert shown(browser) == set(np.flatnonzero((predictions != example.labels) & (example.labels == 2)).tolist())
        browser.click("#reset")
        browser.fill("#from", "80")
        assert shown(browser) == set(np.flatnonzero(confidence >= 800).tolist())
        browser.click("#reset")
        assert len(shown(browser)) == 60


def test_a_picture_is_that_of_its_image(report):
    """The picture at an image's place has its brightness: images of a class share a shade of grey."""
    example, file = report
    with opened(file) as browser:
        for number in (0, 1, 2, 31):
            picture = Image.open(io.BytesIO(browser.locator(f'#thumbs li[data-image="{number}"] button').screenshot()))
            assert (
                abs(picture.convert("L").getpixel((picture.width // 2, picture.height // 2)) - int(example.pixels[number, 9, 9, 0]))
                < 12
            )


def test_a_dot_of_the_map_is_its_image(report):
    """Pointed at, a dot shows its image with the prediction; the arrow keys move to the next dot, Enter opens it."""
    example, file = report
    predictions = example.probabilities["baseline"].argmax(1)
    with opened(file) as browser:
        browser.locator("#map-dots").scroll_into_view_if_needed()
        box = browser.locator("#map-dots").bounding_box()
        for number in (0, 31):
            x, y = example.embedded.places[number]
            at = [box["x"] + (x + 25) / 1050 * box["width"], box["y"] + (1025 - y) / 1050 * box["height"]]
            browser.mouse.move(at[0], at[1])
            shown = browser.inner_text("#map-image")
            assert example.images[number]["path"] in shown
            mark = "✓" if predictions[number] == example.labels[number] else "✗"
            assert f"{mark} {example.details.classes[predictions[number]]}, " in shown
        browser.mouse.click(at[0], at[1])
        browser.mouse.move(box["x"] + 5, box["y"] + 5)
        assert example.images[31]["path"] in browser.inner_text("#map-image")  # it is kept
        browser.focus("#map-dots")
        browser.keyboard.press("ArrowUp")
        browser.keyboard.press("ArrowRight")
        path = browser.inner_text("#map-image a")
        label = int(example.labels[[image["path"] for image in example.images].index(path)])
        assert label == example.labels[31] + 1  # a class is a column of this map
        browser.keyboard.press("Enter")
        assert path in browser.inner_text("#image-body")


def test_the_map_is_coloured_by_class_or_by_error(report):
    """As many dots have a class's colour as it has images, or the colour of mistakes as there are mistakes."""
    example, file = report
    wrong = int((example.probabilities["baseline"].argmax(1) != example.labels).sum())
    with opened(file, width=390) as browser:
        assert browser.locator("#map-dots circle.s1").count() == (example.labels == 1).sum()
        browser.select_option("#map-class", "1")
        assert browser.locator("#map-dots circle.dim").count() == (example.labels != 1).sum()
        assert browser.inner_text("#map-image h3") == "dog"
        browser.select_option("#map-colour", "correct")
        assert browser.locator("#map-dots circle.bad").count() == wrong


def test_a_dialog_has_the_file_and_the_line_that_corrects_it(tmp_path):
    """The link leads to the file beside the report, and the line is the one that Python quotes, whatever the name."""
    names = ["it's.jpg", "a b#c.jpg", "-x.jpg"]
    labels = np.zeros(3, int)
    example = evaluation(("cat", "old dog"), labels, probabilities={"baseline": np.array([[0.1, 0.9]] * 3)})
    images = [{"path": name, "sha256": ""} for name in names]
    example = dataclasses.replace(example, images=images, issues=(), heatmaps=(), folder="../photos")
    diagnostics = example.diagnostics.model_copy(update={"always_wrong": []})
    (tmp_path / "report.html").write_text(page(dataclasses.replace(example, diagnostics=diagnostics)), encoding="utf-8")
    with opened(tmp_path / "report.html") as browser:
        for name in names:
            browser.locator(f'#thumbs button[title$="{name}"]').click()
            address = browser.get_attribute("#image-body a", "href")
            assert unquote(address) == unquote(source_files.address("../photos", name)) == f"../photos/{name}"
            assert browser.inner_text("#image-body .fix code") == source_files.fix_command(name, "old dog")
            browser.click("#close")


def test_a_line_is_copied(report):
    """The button beside a line puts it on the clipboard."""
    with opened(report[1]) as browser:
        browser.context.grant_permissions(["clipboard-read", "clipboard-write"])
        line = browser.locator("#labels ~ ul .fix").first
        line.locator("button").click()
        line.locator("button", has_text="copied").wait_for()  # the clipboard answers later than the click
        assert browser.evaluate("navigator.clipboard.readText()") == "darkroom fix cat/00000.png owl"


@pytest.mark.parametrize("dark", [False, True])
def test_a_table_that_scrolls_says_so(report, dark):
    """On a phone the edge beyond which a table goes on is shaded, and no longer once it has been scrolled to its end."""
    with opened(report[1], dark, width=390) as browser:
        table = browser.locator('.scroll[aria-label="leaderboard"]')

        def shade(end: int) -> float:
            """Return how far the column of pixels at the left (0) or right (1) edge differs from the others."""
            pixels = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L")).astype(float)
            columns = np.median(pixels, axis=0)
            return abs(columns[[1, -2][end]] - np.median(columns))

        left, right = shade(0), shade(1)
        assert right > 20 > 4 > left
        table.evaluate("element => { element.scrollLeft = element.scrollWidth; }")
        left, right = shade(0), shade(1)
        assert left > 20 > 4 > right


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


def test_many_classes_can_be_explored(tmp_path):
    """The matrix stays a map of the classes: a click and the keys work in it, and the page does not scroll
    sideways."""
    labels = np.arange(400) % 60
    example = evaluation([f"class {i}" for i in range(60)], labels, 0.7)
    (tmp_path / "report.html").write_text(page(example), encoding="utf-8")
    predictions = example.probabilities["baseline"].argmax(1)
    with opened(tmp_path / "report.html") as browser:
        assert not scrolls_sideways(browser)
        cell(browser, 42, 42).click()
        assert shown(browser) == set(np.flatnonzero((labels == 42) & (predictions == 42)).tolist())


def test_a_matrix_without_numbers_has_no_serious_fault(tmp_path):
    """From 25 classes on cells are small and empty; their counts are in their names (100 classes take
    axe-core minutes)."""
    (tmp_path / "report.html").write_text(page(evaluation([f"class {i}" for i in range(25)], np.arange(50) % 25)), encoding="utf-8")
    with opened(tmp_path / "report.html") as browser:
        assert "spread" in browser.get_attribute("#matrix", "class")
        assert faults(browser) == []
        assert browser.locator("#matrix td[aria-label*=image]").count() == 25 * 25


def test_of_very_many_classes_the_most_confused_are_shown(tmp_path, monkeypatch):
    """Of 80 classes a matrix of at most 30 has 30, and a cell still shows the images of its own classes, for
    another model too."""
    monkeypatch.setattr(report_page, "MATRIX", 30)
    labels = np.arange(160) % 80
    example = evaluation([f"class {i}" for i in range(80)], labels, 0.7)
    (tmp_path / "report.html").write_text(page(example), encoding="utf-8")
    matrix = np.array(example.details.models["baseline"].confusion_matrix)
    shown_classes = most_confused(matrix, 30)
    with opened(tmp_path / "report.html") as browser:
        assert "the 30 with most mistakes" in browser.inner_text("main")
        for model, name in enumerate(("baseline", "transfer/x")):
            browser.select_option("#model", str(model))
            predictions = example.probabilities[name].argmax(1)
            cell(browser, 20, 20).click()
            own = shown_classes[20]
            assert shown(browser) == set(np.flatnonzero((labels == own) & (predictions == own)).tolist())

"""The report: self-contained, small, the same for equal evaluations, and sensible in extreme cases."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import warnings
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from darkroom.evaluation.metrics_io import Pair, SetMetrics
from darkroom.evaluation.report import explorer, verdict
from darkroom.evaluation.report.page import page
from tests.evaluation.example_report import MODELS, evaluation


class Elements(HTMLParser):
    """The text of a page outside scripts and styles, and its elements as (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.hidden = "", [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag if tag in ("script", "style") else self.hidden

    def handle_endtag(self, tag):
        self.hidden = "" if tag == self.hidden else self.hidden

    def handle_data(self, data):
        self.text += "" if self.hidden else f"{data} "


def content(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def miscounted(text: str) -> list[str]:
    """Return the like of `1 images`, `1 image are` and `2 image` in a text."""
    nouns = "image|file|picture|class|group|copy|cluster|conflict|leak|mistake|fold|thread|corruption|resample"
    before = r"(?<![\d.,/])"
    kind = "(?:(?:test|training|validation|more) )?"
    plural = rf"{before}1 {kind}(?:{nouns.replace('class', 'classe').replace('copy', 'copie')})s\b"
    singular = rf"{before}(?:0|[2-9]|\d[\d,]*\d) {kind}(?:{nouns})\b"
    verb = rf"{before}1 (?:{kind}(?:{nouns}) )?(?:are|have|lie|predict)\b"
    return re.findall(f"{plural}|{singular}|{verb}", text)


def predicting(predictions: np.ndarray, classes: int = 3) -> dict[str, np.ndarray]:
    """Return probabilities of all models with these predictions (N,), each with confidence 0.9."""
    values = np.full((len(predictions), classes), 0.1 / max(classes - 1, 1))
    values[np.arange(len(predictions)), predictions] = 0.9
    return {name: values / values.sum(1, keepdims=True) for name in MODELS}


def cases() -> dict[str, dict]:
    two, three, once = np.arange(40) % 2, np.arange(60) % 3, np.arange(3)
    return {
        "two classes": {"classes": ("a", "b"), "labels": two},
        "a class missing from test": {"labels": three % 2},
        "a class never predicted": {"labels": three, "probabilities": predicting(np.minimum(three, 1))},
        "one image per class": {"labels": once},
        "all correct": {"labels": three, "probabilities": predicting(three)},
        "all wrong": {"labels": three, "probabilities": predicting((three + 1) % 3)},
        "one image": {"classes": ("a", "b"), "labels": np.zeros(1, int)},
        "one model": {"probabilities": {"baseline": predicting(three)["baseline"]}, "labels": three},
    }


@pytest.mark.parametrize("case", cases())
def test_the_page_is_sensible_in_extreme_cases(case):
    """Every section is there, no figure is NaN, and nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = Elements(page(evaluation(**cases()[case]))).text
    for name in ("Leaderboard", "Confusions", "Test images", "Model card", "Origin", "Robustness", "Training"):
        assert name in shown
    assert re.findall(r".{0,60}\b(?:nan|inf|None\b(?!\.)|undefined)\b", shown) == []
    if case == "a class missing from test":
        assert re.search("Without test images.*: owl", shown)
    if case == "a class never predicted":
        assert "Never predicted: owl" in shown
    if case == "all correct":
        assert "no mistake" in shown
        assert re.search(r"100\.0% of 60 test images .*\(94\.0% to 100\.0%\)", shown)
        assert "-0.0" not in shown


@pytest.mark.parametrize("count", [1, 2])
def test_counts_are_in_grammar(count):
    """With one of everything nothing is plural beside the 1, and with two of everything nothing singular beside the 2."""
    example = evaluation(("a", "b")[:count], np.arange(count), probabilities={"baseline": np.eye(count)[::-1] * 0.9 + 0.05})
    diagnostics = example.diagnostics.model_copy(update={
        "labels": example.diagnostics.labels.model_copy(update={"images": count}),
        "robustness": example.diagnostics.robustness.model_copy(update={
            "corruptions": dict(list(example.diagnostics.robustness.corruptions.items())[:count])}),
        "slices": [item.model_copy(update={"images": count}) for item in example.diagnostics.slices],
    })  # fmt: skip
    data = {"files": count, "quarantined": count, "train": count, "val": count, "test": count, "classes": {}}
    params = {**example.params, "compute": {"threads": count}}
    metrics = example.metrics.model_copy(update={"resamples": count})
    text = page(dataclasses.replace(example, metrics=metrics, diagnostics=diagnostics, data=data, params=params))
    elements = Elements(text)
    spoken = [attributes.get(name) or "" for _, attributes in elements.tags for name in ("aria-label", "alt", "title")]
    assert miscounted(elements.text + "; ".join(spoken)) == []


def test_prediction_sets_are_those_of_the_metrics():
    """The page has, for the selected model, how often the sets of each coverage hold the true class, and how large they are."""
    example = evaluation()
    assert "Prediction sets" not in page(example)  # a model of before there were any
    sets = {"0.8": SetMetrics(coverage=0.8125, size=0.95, empty=0.05), "0.95": SetMetrics(coverage=0.9375, size=1.25, empty=0)}
    chosen = example.metrics.models[example.metrics.best].model_copy(update={"prediction_sets": sets})
    metrics = example.metrics.model_copy(update={"models": {**example.metrics.models, example.metrics.best: chosen}})
    shown = Elements(page(dataclasses.replace(example, metrics=metrics))).text
    assert re.search(r"80\.0%\s+81\.\d%\s+0\.95\s+5\.0%\s+95\.0%\s+93\.\d%\s+1\.25\s+0\.0%", shown), shown[-200:]


def test_a_page_without_issues_and_slices():
    """Sections without content say so."""
    example = evaluation()
    nothing = {"slices": [], "confused": [], "always_wrong": [], "learning_curve": None}
    diagnostics = example.diagnostics.model_copy(update=nothing)
    text = page(dataclasses.replace(example, diagnostics=diagnostics, issues=(), pictures={}, heatmaps=(), origin={}))
    assert all(
        sentence in text
        for sentence in ("None.", "too few test images for slices", "for a learning curve", "No test image is misclassified")
    )


def test_the_learning_curve_is_told_in_a_paragraph():
    """It has the accuracies with the fewest images, with how many features reach what pixels have with all, and the last gain."""
    text = page(evaluation())
    sentence = re.search(r'<h2 id="learning-curve">.*?<p>(.*?)</p>', text, re.DOTALL)[1]
    assert all(
        part in sentence for part in ("10 images", "60.0%", "40.0%", "40 images", "14", "from 20 to 40", "+5.0", "-1.0 to +11.0")
    )


def test_the_page_is_self_contained():
    """It loads nothing, links to files of the source alone, has no script but its own, class names cannot become
    markup, and equal inputs give equal bytes."""
    names = ("<b>a</b>", "</script><script>alert(1)</script>", "c")
    text = page(evaluation(names))
    elements = Elements(text)
    scripts = [attributes.get("type") for tag, attributes in elements.tags if tag == "script"]
    assert scripts == ["application/json", None]
    loaded = [attributes[name] for _, attributes in elements.tags for name in ("src", "action") if name in attributes]
    assert all(address.startswith("data:") for address in loaded)
    links = [(tag, attributes["href"]) for tag, attributes in elements.tags if "href" in attributes]
    assert all(tag == "a" and address.startswith(("#", "../photos/")) for tag, address in links)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert all(address.startswith("data:") for style in styles for address in re.findall(r"url\(([^)]*)\)|@import", style))
    assert names[0] in elements.text
    assert text == page(evaluation(names))
    assert content(text)["classes"] == list(names)


@pytest.mark.slow
def test_four_hundred_classes_and_ten_thousand_images_stay_below_5_mib():
    """Pixels that cannot be compressed and long names fit; every image is there, and pictures go to mistakes
    first."""
    labels = np.arange(10_000) % 400
    example = evaluation([f"a class with a long name {i}" for i in range(400)], labels, 0.7, 96, noise=True)
    text = page(example)
    assert len(text.encode()) < 5 * 2**20
    shown = content(text)
    assert len(shown["labels"]) == 10_000
    assert shown["pictures"] > 500
    wrong = example.probabilities["baseline"].argmax(1) != labels
    pictured = np.array(shown["thumb"]) >= 0
    assert wrong[pictured].all()  # of 3,000


def test_of_more_images_a_sample_holds_the_mistakes():
    """Of 12,000 images 10,000 are in the page, with all mistakes, the images of the map and the total number."""
    labels = np.arange(12_000) % 4
    probabilities = {"baseline": np.eye(4)[np.where(np.arange(12_000) % 10, labels, (labels + 1) % 4)]}
    images = [{"path": f"{i}.png"} for i in range(12_000)]
    mapped = np.arange(11_000, 12_000)
    explored = explorer.explore("baseline", probabilities, labels, images, "abcd", mapped)
    assert len(explored.images) == explorer.MOST
    assert explored.content["of"] == 12_000
    wrong = np.flatnonzero(probabilities["baseline"].argmax(1) != labels)
    assert np.isin(wrong, explored.images).all()
    assert np.isin(mapped, explored.images).all()
    assert set(explored.order[: len(wrong)]) == set(wrong.tolist())


@pytest.mark.parametrize("most", [0, 500, 3_000, 10**6])
def test_sheets_keep_to_their_bytes(most):
    """Pictures are at their places, 16 a row, in the requested order, and the text is never longer than
    allowed."""
    images = np.repeat(np.arange(0, 250, 5, np.uint8), 32 * 32 * 3).reshape(50, 32, 32, 3)
    uris, shown = explorer.sheets(images, list(range(49, -1, -1)), most)
    assert sum(map(len, uris)) <= most
    assert shown == list(range(49, 49 - len(shown), -1))
    if most == 10**6:
        assert len(shown) == 50
        sheet = cv2.imdecode(np.frombuffer(base64.b64decode(uris[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        for place, image in enumerate(shown):
            y, x = 32 * (place // 16) + 16, 32 * (place % 16) + 16
            assert abs(int(sheet[y, x, 0]) - 5 * image) <= 4


def test_the_verdict_does_not_depend_on_the_order_of_a_pair():
    """The direction of a difference and its significance are the same whichever model of the pair comes
    first."""
    pair = Pair(a="transfer/x", b="baseline", difference=-0.05, low=-0.08, high=-0.02, mcnemar_p=0.001, p_holm=0.002)
    turned = Pair(a="baseline", b="transfer/x", difference=0.05, low=0.02, high=0.08, mcnemar_p=0.001, p_holm=0.002)
    assert verdict.comparison(pair, "transfer/x") == verdict.comparison(turned, "transfer/x") == (-0.05, -0.08, -0.02, 0.002)
    example = evaluation()
    for item in (pair, turned):
        _, sentences = verdict.sentences(example.metrics, example.details.model_copy(update={"pairs": [item]}))
        assert "transfer/x, is 5.0 points lower; that is significant (p = 0.002)" in " ".join(sentences)


def test_ensembles_are_compared_with_the_best():
    """The leaderboard has the difference of an ensemble from the best model and its p-value."""
    assert ">+1.2</span><small>p = 0.43</small>" in page(evaluation())

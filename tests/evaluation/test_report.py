"""The report: self-contained, small, the same for the same findings, and sensible whatever was found."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest

from darkroom.evaluation.report import explorer, sprites, verdict
from darkroom.evaluation.report.page import page
from tests.evaluation.example_report import MODELS, findings


def content(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def never(labels: np.ndarray, classes: int, said: np.ndarray) -> dict[str, np.ndarray]:
    """Return answers of all models: `said` (N,), 90% sure."""
    given = np.full((len(labels), classes), 0.1 / max(classes - 1, 1))
    given[np.arange(len(labels)), said] = 0.9
    return {name: given / given.sum(1, keepdims=True) for name in MODELS}


def cases() -> dict[str, dict]:
    two, three, once = np.arange(40) % 2, np.arange(60) % 3, np.arange(3)
    return {
        "two classes": {"classes": ("a", "b"), "labels": two},
        "a class missing from test": {"labels": three % 2},
        "a class never predicted": {"labels": three, "said": never(three, 3, np.minimum(three, 1))},
        "one image per class": {"labels": once},
        "all correct": {"labels": three, "said": never(three, 3, three)},
        "all wrong": {"labels": three, "said": never(three, 3, (three + 1) % 3)},
        "one image": {"classes": ("a", "b"), "labels": np.zeros(1, int)},
        "one model": {"said": {"baseline": never(three, 3, three)["baseline"]}, "labels": three},
    }


@pytest.mark.parametrize("case", cases())
def test_the_page_is_sensible_whatever_was_found(case):
    """Every section is there, no figure is NaN, and nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = page(findings(**cases()[case]))
    shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
    for name in ("Leaderboard", "Confusions", "Test images", "Model card", "How it was made", "Worse images", "Training"):
        assert name in shown
    assert not re.search(r"\b(nan|inf|None|undefined)\b", shown), re.search(r".{60}\b(nan|inf|None|undefined)\b", shown)
    if case == "a class missing from test":
        assert "nothing is known of: owl" in shown
    if case == "a class never predicted":
        assert "Never predicted: owl" in shown
    if case == "all correct":
        assert "It makes no mistake" in shown
        assert "100.0% of 60 test images (95.0% to 100.0%)" in shown
        assert "-0.0" not in shown


def test_without_what_lies_beyond_the_average_there_is_a_page():
    """A page is made of figures and answers alone: no heat maps, corruptions, slices or doubtful labels."""
    bare = dataclasses.replace(findings(), beyond={}, issues=(), heats=(), method="", made={}, pictures={})
    text = page(bare)
    assert "No heat maps were made" in text
    assert "Corrupted images were not looked at" in text


def test_the_page_stands_alone():
    """It names no address, its only script is the one that its policy admits, names cannot become markup, and it is repeatable."""
    names = ("<b>a</b>", "</script><script>alert(1)</script>", "c")
    text = page(findings(names))
    assert "<b>a</b>" not in text
    assert "alert(1)</script>" not in text
    assert text.count("<script") == 2
    assert not re.search(r'(src|href)="(?!data:|#)|@import|url\((?!data:)', text)
    assert text == page(findings(names))
    assert content(text)["classes"] == list(names)


def test_a_hundred_classes_and_ten_thousand_images_stay_below_5_mib():
    """The most that is promised: pixels that cannot be compressed, long names, and every mistake has its place among the images."""
    labels = np.arange(10_000) % 100
    found = findings([f"a class with a long name {i}" for i in range(100)], labels, 0.7, 96, noise=True)
    text = page(found)
    assert len(text.encode()) < 5 * 2**20
    shown = content(text)
    assert len(shown["labels"]) == 10_000
    assert shown["held"] > 500
    wrong = found.answers["baseline"].argmax(1) != labels
    pictured = np.array(shown["thumb"]) >= 0
    assert wrong[pictured].all()  # 3,000 mistakes: they come first


def test_of_more_images_a_sample_holds_the_mistakes():
    """Of 12,000 images 10,000 are in the page, all mistakes among them, and the page says of how many."""
    labels = np.arange(12_000) % 4
    said = {"baseline": np.eye(4)[np.where(np.arange(12_000) % 10, labels, (labels + 1) % 4)]}
    images = [{"path": f"{i}.png"} for i in range(12_000)]
    found = explorer.explore("baseline", said, labels, images, "abcd")
    assert len(found.chosen) == explorer.MOST
    assert found.content["of"] == 12_000
    wrong = np.flatnonzero(said["baseline"].argmax(1) != labels)
    assert np.isin(wrong, found.chosen).all()
    assert found.order[: len(wrong)] == sorted(found.order[: len(wrong)], key=found.order.index)
    assert set(found.order[: len(wrong)]) == set(wrong.tolist())


@pytest.mark.parametrize("most", [0, 500, 3_000, 10**6])
def test_sheets_keep_to_their_bytes_and_hold_what_they_say(most):
    """Pictures are at their places, 16 a row, in the order asked for, and the text is never longer than allowed."""
    import base64

    import cv2

    images = np.repeat(np.arange(0, 250, 5, np.uint8), 32 * 32 * 3).reshape(50, 32, 32, 3)
    made = sprites.sheets(images, list(range(49, -1, -1)), most)
    assert sum(map(len, made.uris)) <= most
    assert made.held == list(range(49, 49 - len(made.held), -1))
    if most == 10**6:
        assert len(made.held) == 50
        sheet = cv2.imdecode(np.frombuffer(base64.b64decode(made.uris[0].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        for place, image in enumerate(made.held):
            y, x = 32 * (place // 16) + 16, 32 * (place % 16) + 16
            assert abs(int(sheet[y, x, 0]) - 5 * image) <= 4


def test_the_verdict_says_what_a_comparison_found():
    """Which way a difference goes, and whether it may be chance, is read from the pair whichever way round it is kept."""
    pair = {"a": "x", "b": "best", "difference": -0.05, "low": -0.08, "high": -0.02, "mcnemar_p": 0.001, "p_holm": 0.002}
    turned = {"a": "best", "b": "x", "difference": 0.05, "low": 0.02, "high": 0.08, "mcnemar_p": 0.001, "p_holm": 0.002}
    assert verdict.comparison(pair, "x") == verdict.comparison(turned, "x") == (-0.05, -0.08, -0.02, 0.002)
    found = findings()
    for kept in (pair, turned):
        renamed = {**kept, **{key: {"x": "transfer/x", "best": "baseline"}[kept[key]] for key in ("a", "b")}}
        _, sentences = verdict.sentences(found.metrics, {**found.details, "pairs": [renamed]})
        assert "transfer/x, is 5.0 points lower; that is significant (p = 0.002)" in " ".join(sentences)


def test_ensembles_are_compared_with_the_best():
    """The leaderboard says of an ensemble, too, how far it is from the best model, and whether that may be chance."""
    text = page(findings())
    assert ">+1.2</span><small>p = 0.43</small>" in text

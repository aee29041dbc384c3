"""Learning curves: readable axes for any history, and valid SVG."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from darkroom.evaluation import curves


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.97), (-3, 17), (0.5, 0.5), (1, 30), (0, 1e-5), (990, 1010)])
def test_ticks_are_few_round_and_inside(low, high):
    """There are at most seven ticks, all within the range, equally far apart."""
    found = curves.ticks(low, high)
    assert len(found) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) <= 1


def test_logarithmic_ticks_cover_a_wide_range():
    """Over three decades the ticks are 1, 2 and 5 times powers of ten; within one of them there are still two."""
    assert curves.log_ticks(0.004, 3) == pytest.approx([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    assert len(curves.log_ticks(0.31, 0.34)) >= 2


@pytest.mark.parametrize("epochs", [1, 2, 40])
@pytest.mark.parametrize("models", [1, 13])
def test_every_model_has_its_line(epochs, models):
    """The picture is valid XML with a line in each chart and a legend entry for every model, whatever its name, loss or length."""
    names = ["<baseline> & co", *(f"finetune/net{i}" for i in range(models - 1))]
    losses = [(i + 1.0, 0.0 if i else 2.5) for i in range(epochs)]
    accuracies = [(i + 1.0, min(1.0, i / 30)) for i in range(epochs)]
    shown = {"validation loss": dict.fromkeys(names, losses), "validation accuracy": dict.fromkeys(names, accuracies)}
    picture = ET.fromstring(curves.charts(shown))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{space}polyline")) == 2 * models
    texts = [element.text for element in picture.findall(f".//{space}text")]
    assert all(texts.count(name) == 1 for name in names)
    for line in picture.findall(f".//{space}polyline"):
        places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        assert len(places) == epochs
        assert all(0 <= x <= 2 * curves.WIDTH and 0 <= y <= curves.HEIGHT for x, y in places)

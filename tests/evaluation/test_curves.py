"""Charts of training and of robustness."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np

from darkroom.core import charts
from darkroom.evaluation.report import curves
from tests.evaluation.example_report import evaluation


def history(*losses: tuple[float, float, float]) -> list[dict[str, str]]:
    rows = [{"train_loss": a, "val_loss": b, "val_accuracy": c} for a, b, c in losses]
    return [{"epoch": str(i), **{key: str(value) for key, value in row.items()}} for i, row in enumerate(rows, start=1)]


def test_both_losses_are_in_one_chart_with_the_kept_epoch():
    """A model has one chart with a line for each loss, and a ring at the kept epoch: of equal losses the most accurate."""
    (chart,) = curves.loss_curves({"baseline": history((2, 2, 0.1), (1, 1, 0.5), (0.5, 1, 0.6), (0.2, 1.5, 0.4))})
    assert chart.count("<polyline") == 2
    (ring,) = re.findall(r'<circle class="s0 ring" cx="([^"]*)" cy="([^"]*)"', chart)
    points = re.search(r'<polyline class="s0" points="([^"]*)"', chart)[1].split()
    assert ",".join(ring) == points[2]


def test_a_model_without_losses_has_no_chart():
    """A history of earlier versions, without a column, does not stop the page."""
    assert curves.loss_curves({"baseline": [{"epoch": "1", "val_accuracy": "0.5"}]}) == []


def test_each_corruption_has_its_sample():
    """A sample is the images side by side, unchanged first; without samples there are charts alone."""
    example = evaluation()
    images = np.broadcast_to(np.arange(0, 240, 40, np.uint8)[:, None, None, None], (6, 96, 96, 3))
    drawn = curves.robustness(example.diagnostics, {"fog": images})
    assert [item["name"] for item in drawn] == ["gaussian noise", "fog"]
    assert drawn[0]["sample"] == ""
    content = base64.b64decode(drawn[1]["sample"].split(",")[1])
    strip = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert strip.shape == (curves.SAMPLE, 6 * curves.SAMPLE)
    assert np.abs(strip[32, 32 :: curves.SAMPLE].astype(int) - images[:, 0, 0, 0]).max() <= 4
    assert all("<svg" in item["chart"] for item in drawn)
    assert charts.NEUTRAL != curves.VALIDATION


def test_a_learning_curve_has_a_line_for_each_kind_of_inputs():
    """Features and pixels are lines over the number of images on a logarithmic axis, the best model is a ring at all of them."""
    measured = evaluation().diagnostics.learning_curve
    chart = curves.learning_curve(measured, "baseline", 0.9)
    colours = curves.learning_curve_colours(measured, "baseline")
    assert len(set(colours.values())) == 3
    lines = {colour: points.split() for colour, points in re.findall(r'<polyline class="s(\d)" points="([^"]*)"', chart)}
    assert lines.keys() == {str(colours["frozen features"]), str(colours["pixels"])}
    first, second, third = (float(point.split(",")[0]) for point in lines[str(colours["frozen features"])])
    assert abs((second - first) - (third - second)) < 0.2  # each number is twice the one before
    assert f'class="s{colours["baseline"]} ring"' in chart

"""Tables behind the plots, and the choice of images for heat maps."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.config.params import read_yaml
from darkroom.evaluation.report import heatmaps, plots
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.specs import CompactSpec
from tests.conftest import ROOT
from tests.evaluation.example_report import evaluation


@pytest.fixture(scope="module")
def example():
    """Return an evaluation of three classes."""
    return evaluation()


def test_plots_have_the_columns_that_the_graph_draws(example):
    """Every table that dvc.yaml declares exists, with the columns of its axes; recalls are those of the
    predictions."""
    predictions = example.probabilities["baseline"].argmax(1)
    tables = plots.of_best("baseline", example.details, predictions, example.labels)
    tables["robustness.csv"] = plots.robustness(example.diagnostics)
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for plot in stages["evaluate"]["plots"] + stages["diagnose"]["plots"]:
        ((path, axes),) = plot.items()
        if path.endswith(".csv"):
            header, rows = tables[path.rpartition("/")[2]]
            assert {axes["x"], axes["y"]} <= set(header)
            assert {len(row) for row in rows} == {len(header)}
    assert [row[1] for row in tables["classes.csv"][1]] == [np.mean(predictions[example.labels == i] == i) for i in range(3)]
    severities = list(tables["robustness.csv"][1])
    assert [row[0] for row in severities] == list(range(6))
    assert severities[0][1] == example.diagnostics.robustness.accuracy


def test_heat_maps_are_of_mistakes_and_of_every_class(example):
    """The most confident mistakes come first, then correct predictions of each class in turn; the method is
    named."""
    shown = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    probabilities = example.probabilities["baseline"]
    network = Network(Compact(CompactSpec(16, 4), 0), shown, 3, 0)
    drawn, method = heatmaps.draw(network, example.pixels, example.labels, probabilities)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != example.labels)
    surest = wrong[np.argsort(-confidence[wrong])][: heatmaps.MISTAKES].tolist()
    images = [item.image for item in drawn]
    assert images[: len(surest)] == surest
    rest = images[len(surest) :]
    assert len(rest) == heatmaps.CORRECT
    assert set(example.labels[rest[:3]]) == {0, 1, 2}
    assert (predicted[rest] == example.labels[rest]).all()
    assert "LayerCAM" in method
    assert all(item.overlay[8:12] == b"WEBP" for item in drawn)

"""The statistics and the derived results of a study."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from darkroom.core import csv_cells
from darkroom.evaluation.seed_comparison import Estimate, against
from darkroom.studies import practice, summary
from darkroom.studies.architectures import ArchitectureStudy, pareto_front
from darkroom.studies.base import count_multiply_adds
from darkroom.studies.practice import PracticeStudy
from darkroom.studies.run_config import CurvePoint, LayerStats, RunConfig, RunResult
from darkroom.studies.scaling import METHODS, UNSCALED, ScalingStudy
from tests.studies.conftest import studies_params


def result(comparison: str, label: str, seed: int, accuracy: float) -> RunResult:
    layer = LayerStats(0, "a", 1.0, None, None, None)
    return RunResult(
        RunConfig(comparison, label, seed, "mlp"), [CurvePoint(1, 1.0, accuracy, None, accuracy)], [layer], 10, 20, 0.5
    )


RESULTS = [
    result("p", label, seed, base + 0.01 * seed + shift)
    for label, base, shift in (("a", 0.5, 0.0), ("b", 0.6, 0.001), ("c", 0.5, 0.0)) for seed in range(3)
] + [result("q", "a", seed, 0.3 + 0.01 * seed**2) for seed in range(3)]  # fmt: skip
RESULTS[4] = result("p", "b", 1, 0.613)


def test_differences_are_paired_and_corrected_over_the_study():
    """Labels are compared with the first of their comparison, by seed; Holm counts all comparisons."""
    a, b, c, q = summary.summarize(RESULTS)
    assert a.difference is None
    assert q.difference is None
    assert b.difference.value == pytest.approx(0.1017, abs=1e-4)
    assert b.difference.high - b.difference.low < 0.01 < a.accuracy.high - a.accuracy.low
    assert c.p == 1
    values = [{i: r.accuracy for i, r in enumerate(RESULTS[start : start + 3])} for start in (0, 3)]
    assert b.p == pytest.approx(2 * against(*values)[1])


def test_nan_is_none():
    """JSON and CSV hold no NaN: a missing number is null there, an empty field here."""
    rows = [row.as_dict() for row in summary.summarize(RESULTS)]
    assert rows[0]["difference"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row.values())
    table = summary.tables(RESULTS)["results.csv"]
    assert ",," in table
    assert "nan" not in table


def test_a_label_is_no_formula():
    """A label that a spreadsheet would run, in whichever table, becomes text; numbers with a sign stay numbers."""
    label = "=cmd|' /C calc'!A0"
    run = replace(result("+p", label, 0, 0.5), layers=[LayerStats(0, "-bn", -1.5, None, None, None)])
    for name, table in summary.tables([run]).items():
        header, *rows = csv.reader(table.splitlines())
        assert len(rows) == 1
        cells = dict(zip(header, rows[0], strict=True))
        assert (cells["comparison"], cells["label"]) == ("'+p", f"'{label}"), name
        assert [csv_cells.unescaped(cells[column]) for column in ("comparison", "label")] == ["+p", label]
        if name == "layers.csv":
            assert (cells["layer"], cells["std"]) == ("'-bn", "-1.5")


def test_a_difference_is_printed_in_points():
    """Differences are percentage points with a sign."""
    _, b, *_ = summary.summarize(RESULTS)
    assert summary.format_difference(b.difference).startswith("+10.2 points (+")


def test_equal_multiply_adds_are_equal():
    """In the study of architectures steps times the cost of a step is the same for all, within half a step."""
    runs = [run for run in ArchitectureStudy(studies_params().architecture.quick).runs(1000) if run.seed == 0]
    for run in runs:
        step = count_multiply_adds(run.architecture, 16, 1, run.options) * 64 * 3
        assert abs(run.steps * step - 30e9) <= step / 2
    assert len({run.steps for run in runs}) == len(runs)


def test_the_pareto_front_is_not_dominated():
    """A label is on the front if no other has a higher accuracy at no higher cost."""
    row = summary.summarize(RESULTS)[0]
    points = [("a", 10, 0.5), ("b", 20, 0.4), ("c", 20, 0.6), ("d", 5, 0.2), ("e", 40, 0.6)]
    rows = [replace(row, label=label, multiply_adds=cost, accuracy=Estimate(value)) for label, cost, value in points]
    assert pareto_front(rows) == ["d", "a", "c"]


@pytest.mark.slow
def test_scaled_networks_cost_nearly_the_same():
    """In the study of scaling, at its quick size, every method comes within a quarter of the requested
    multiply-adds.
    """
    study = ScalingStudy(studies_params().scaling.quick)
    for factor in study.settings.factors:
        for method in METHODS:
            ratio = study.cost(study.find_scale(method, factor)) / study.cost(UNSCALED)
            assert abs(math.log(ratio / factor)) < math.log(1.25), (method, factor, ratio)


def random_predictions(sample):
    """Return the study of practice at its quick size, and a result of each run with random probabilities."""
    study = PracticeStudy(studies_params().practice.quick)
    rng = np.random.default_rng(0)
    results = []
    for run in study.runs(100):
        probabilities = {mode: rng.dirichlet(np.ones(3), len(sample.val_labels)).tolist() for mode in run.tta_modes}
        results.append(replace(result("", "", 0, 0.5), config=run, probabilities=probabilities))
    return study, results


def test_an_ensemble_is_the_mean_of_probabilities(sample):
    """An ensemble predicts the mean and costs the sum; one network is what it is alone."""
    study, results = random_predictions(sample)
    compared = study.compared(results, sample)
    ensembles = {(r.config.label, r.config.seed): r for r in compared if r.config.comparison == practice.ENSEMBLES}
    members = [r for r in results if r.config.label == practice.ONE][5:10]
    mean = np.mean([r.probabilities["plain"] for r in members], 0)
    five = ensembles["5 networks", 1]
    assert five.accuracy == (mean.argmax(1) == sample.val_labels).mean()
    assert five.multiply_adds == 5 * members[0].multiply_adds
    assert ensembles["5 networks, five crops", 1].multiply_adds == 25 * members[0].multiply_adds
    names = (practice.TTA, "plain", 5)
    alone = next(r for r in compared if (r.config.comparison, r.config.label, r.config.seed) == names)
    assert ensembles["one", 1].accuracy == alone.accuracy


def test_crops_are_compared_with_one_of_their_scale(sample):
    """Five crops are paired with the middle one of the same network, so that the scale of a crop is no part of the difference."""
    study, results = random_predictions(sample)
    rows = summary.of_comparison(summary.summarize(study.compared(results, sample)), practice.CROPS)
    one, five = rows
    assert (one.label, one.difference, five.label) == ("center crop", None, "five crops")
    assert (one.multiply_adds * 5, one.seeds) == (five.multiply_adds, five.seeds)
    networks = [r for r in results if r.config.label == practice.ONE]
    right = {mode: [(np.array(r.probabilities[mode]).argmax(1) == sample.val_labels).mean() for r in networks] for mode in
             ("center_crop", "five_crops")}  # fmt: skip
    assert five.difference.value == pytest.approx(np.mean(right["five_crops"]) - np.mean(right["center_crop"]))

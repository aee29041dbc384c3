"""The statistics of a study."""

from __future__ import annotations

import math

import pytest

from darkroom.studies import summary
from darkroom.studies.members import Member, Outcome


def outcome(panel: str, label: str, seed: int, accuracy: float) -> Outcome:
    row = {"step": 1, "train_loss": 1.0, "train_accuracy": accuracy, "val_loss": None, "val_accuracy": accuracy}
    return Outcome(Member(panel, label, seed, "mlp"), [row], [{"step": 0, "layer": "a", "std": 1.0}], 10, 20, 0.5)


MADE = [
    outcome("p", label, seed, base + 0.01 * seed + shift)
    for label, base, shift in (("a", 0.5, 0.0), ("b", 0.6, 0.001), ("c", 0.5, 0.0)) for seed in range(3)
] + [outcome("q", "a", seed, 0.3 + 0.01 * seed**2) for seed in range(3)]  # fmt: skip
MADE[4] = outcome("p", "b", 1, 0.613)


def test_differences_are_paired_and_corrected_over_the_study():
    """Each label is compared with the first of its panel, over the same seeds; Holm counts all comparisons of the study."""
    a, b, c, q = summary.lines(MADE)
    assert a.difference is None
    assert q.difference is None
    assert b.difference.value == pytest.approx(0.1017, abs=1e-4)
    assert b.difference.high - b.difference.low < 0.01 < a.accuracy.high - a.accuracy.low
    assert c.p == 1
    from darkroom.evaluation.compared import against

    alone = against({i: o.accuracy for i, o in enumerate(MADE[:3])}, {i: o.accuracy for i, o in enumerate(MADE[3:6])})[1]
    assert b.p == pytest.approx(2 * alone)


def test_what_is_no_number_is_none():
    """JSON and CSV hold no NaN: a missing number is null there, an empty field here."""
    rows = summary.as_rows(summary.lines(MADE))
    assert rows[0]["difference"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row.values())
    assert ",," in summary.results(MADE)
    assert "nan" not in summary.results(MADE)


def test_a_difference_is_printed_in_points():
    """Differences are percentage points with a sign."""
    _, b, *_ = summary.lines(MADE)
    assert summary.said(b.difference, "+").startswith("+10.2 points (+")


def test_equal_multiply_adds_are_equal():
    """In the study of architectures steps times the cost of a step is the same for all, within half a step."""
    from darkroom.params import read_yaml
    from darkroom.studies import architecture, params
    from tests.conftest import ROOT

    settings = params.parse(read_yaml(ROOT / "studies" / "params.yaml")).architecture.quick
    members = [member for member in architecture.members(settings, 1000) if member.seed == 0]
    for member in members:
        step = architecture.multiply_adds(member.architecture, 16, 1, member.options) * 64 * 3
        assert abs(member.steps * step - 30e9) <= step / 2
    assert len({member.steps for member in members}) == len(members)


def test_the_pareto_front_is_not_beaten():
    """A label is on the front where no other has a higher accuracy at no higher cost."""
    from dataclasses import replace

    from darkroom.evaluation.compared import Estimate
    from darkroom.studies.architecture import pareto

    line = summary.lines(MADE)[0]
    made = [("a", 10, 0.5), ("b", 20, 0.4), ("c", 20, 0.6), ("d", 5, 0.2), ("e", 40, 0.6)]
    lines = [replace(line, label=label, multiply_adds=cost, accuracy=Estimate(value)) for label, cost, value in made]
    assert pareto(lines) == ["d", "a", "c"]

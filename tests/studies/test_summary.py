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

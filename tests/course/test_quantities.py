"""Numbers in predictions."""

from __future__ import annotations

import pytest

from darkroom.course import quantities


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("about 97%", "accuracy", 0.97),
        ("0.97", "accuracy", 0.97),
        ("0,97", "accuracy", 0.97),
        ("97", "train_accuracy", 0.97),
        ("1", "accuracy", 1.0),
        ("44 layers: 30 percent", "accuracy", 0.3),
        ("ResNet-20 has 0.9", "accuracy", 0.2),
        ("-5 points", "difference", -0.05),
        ("− 5", "difference", 0.05),
        ("−5", "difference", -0.05),
        ("0.5 points", "difference", 0.005),
        ("20-30 points", "difference", 0.3),
        ("1,200,000", "parameters", 1_200_000),
        ("3 of them, 2.5M", "multiply_adds", 2_500_000),
        ("70k", "parameters", 70_000),
        ("no idea", "accuracy", None),
    ],
)
def test_a_prediction_has_a_number(text, field, value):
    """The first number with a unit counts, else the first; above 1 a share is percent."""
    assert quantities.parse(text, field) == pytest.approx(value)


@pytest.mark.parametrize(
    ("predicted", "measured", "field", "text"),
    [
        (0.9, 0.966, "accuracy", "6.6 points too low"),
        (0.6, 0.508, "difference", "9.2 points too high"),
        (0.9661, 0.966, "accuracy", "right"),
        (1_000, 71_946, "parameters", "70,946 too low"),
    ],
)
def test_a_prediction_is_compared(predicted, measured, field, text):
    """The distance is in points for shares, and right where none is left after rounding."""
    assert quantities.compare(predicted, measured, field) == text

"""Numbers in predictions."""

from __future__ import annotations

import pytest

from darkroom.course import quantities
from darkroom.course.quantities import Unit


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("about 97%", Unit.SHARE, 0.97),
        ("0.97", Unit.SHARE, 0.97),
        ("0,97", Unit.SHARE, 0.97),
        ("97", Unit.SHARE, 0.97),
        ("1", Unit.SHARE, 1.0),
        ("44 layers: 30 percent", Unit.SHARE, 0.3),
        ("ResNet-20 has 0.9", Unit.SHARE, 0.2),
        ("-5 points", Unit.POINTS, -0.05),
        ("− 5", Unit.POINTS, 0.05),
        ("−5", Unit.POINTS, -0.05),
        ("0.5 points", Unit.POINTS, 0.005),
        ("20-30 points", Unit.POINTS, 0.3),
        ("1,200,000", Unit.COUNT, 1_200_000),
        ("3 of them, 2.5M", Unit.COUNT, 2_500_000),
        ("70k", Unit.COUNT, 70_000),
        ("with 8 inputs 5 times", Unit.TIMES, 5),
        ("5×", Unit.TIMES, 5),
        ("to 53%", Unit.TIMES, 0.53),
        ("no idea", Unit.SHARE, None),
        ("3", Unit.TEXT, None),
    ],
)
def test_a_prediction_has_a_number(text, unit, value):
    """The first number with a unit counts, else the first; above 1 a share is percent."""
    assert quantities.parse(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4 points at 8 layers, 24 points at 44", [0.04, 0.24]),
        ("0.02, then 30", [0.02, 0.3]),
        ("20 points", [None, None]),
        ("4 at 8, 24 at 44", [None, None]),
    ],
)
def test_several_numbers_are_those_of_a_prediction_that_has_as_many(text, values):
    """Nobody guesses which of four numbers is about which of two measurements."""
    found = quantities.parse_each(text, [Unit.POINTS, Unit.POINTS])
    assert found == [value if value is None else pytest.approx(value) for value in values]


@pytest.mark.parametrize(
    ("predicted", "measured", "unit", "text"),
    [
        (0.9, 0.966, Unit.SHARE, "6.6 points too low"),
        (0.6, 0.508, Unit.POINTS, "9.2 points too high"),
        (0.9661, 0.966, Unit.SHARE, "right"),
        (1_000, 71_946, Unit.COUNT, "70,946 too low"),
        (2, 5.1, Unit.TIMES, "3.1 too low"),
        (0.5, 0.53, Unit.TIMES, "3.0 points too low"),
    ],
)
def test_a_prediction_is_compared(predicted, measured, unit, text):
    """The distance is in points for shares, and right where none is left after rounding."""
    assert quantities.compare(predicted, measured, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.966, Unit.SHARE, "0.9660"),
        (-0.508, Unit.POINTS, "−50.8 points"),
        (0.714, Unit.PERCENT, "71%"),
        (0.53, Unit.TIMES, "53%"),
        (5.11, Unit.TIMES, "5.1 times"),
        (2400.2, Unit.TIMES, "2,400 times"),
        (71946, Unit.COUNT, "71,946"),
        (152.21, Unit.NUMBER, "152.2"),
    ],
)
def test_a_number_is_written_in_its_unit(value, unit, text):
    """Shares below 1 and ratios above it are written as people say them."""
    assert quantities.text(value, unit) == text


@pytest.mark.parametrize(
    ("prediction", "label"),
    [("plain SGD", "plain_sgd"), ("Sgd, I think", "sgd"), ("adam or sgd", ""), ("AdamW", "adamw"), ("momentum", "")],
)
def test_a_prediction_names_a_label(prediction, label):
    """One label that is named is the prediction, of two neither; a label inside another one's name is not named by it."""
    assert quantities.find_label(prediction, ["plain_sgd", "sgd", "adam", "adamw"]) == label

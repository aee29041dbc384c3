"""Numbers in predictions, and how far they are from those of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "g": 1e9, "billion": 1e9}
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−+]?)(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)\s*(?:(?P<percent>%|percent|points?\b|pp\b)|"
    r"(?P<times>×|times\b|x\b)|(?P<scale>k|m|g|thousand|million|billion)\b)?",
    re.IGNORECASE,
)


class Unit(Enum):
    """What a number of a run is, which decides how it is written and read."""

    SHARE = "share"  # an accuracy: 0.9660
    PERCENT = "percent"  # another share: 71%
    POINTS = "points"  # a difference of shares: +50.8 points
    TIMES = "times"  # a ratio: 5.1 times, or where it is below 1, 53%
    COUNT = "count"  # 71,946
    NUMBER = "number"  # 27.3
    TEXT = "text"


_SHARES = (Unit.SHARE, Unit.PERCENT, Unit.POINTS)
_WRITTEN = dict.fromkeys(_SHARES, "percent") | {Unit.TIMES: "times"}  # after a number of this unit


def parse(text: str, unit: Unit) -> float | None:
    """Return the number in a prediction, in a unit, or None if there is none.

    Of several numbers it is the first with a unit, else the first. A share may be written as 0.97, 97%, 3 points, or 97:
    without a unit, what is above 1 is percent.
    """
    numbers = _numbers(text)
    match = next((hit for hit in numbers if _has_unit(hit, unit)), numbers[0] if numbers else None)
    return _value(match, unit) if match and unit is not Unit.TEXT else None


def parse_each(text: str, units: Sequence[Unit]) -> list[float | None]:
    """Return a number for each unit, in the order of the prediction; None for all where it has more numbers, or fewer.

    Numbers with a unit count alone where they are as many: "4 points at 8 layers, 24 points at 44" has two.
    """
    if len(units) == 1:
        return [parse(text, units[0])]
    numbers = _numbers(text)
    with_unit = [hit for hit in numbers if any(_has_unit(hit, unit) for unit in units)]
    matches = with_unit if len(with_unit) == len(units) else numbers
    if len(matches) != len(units):
        return [None] * len(units)
    return [None if unit is Unit.TEXT else _value(match, unit) for match, unit in zip(matches, units, strict=True)]


def _numbers(text: str) -> list[re.Match[str]]:
    return list(_NUMBER.finditer(re.sub(r"(?<!\d)0,(?=\d)", "0.", text)))  # a decimal comma


def _has_unit(match: re.Match[str], unit: Unit) -> bool:
    return bool(match[_WRITTEN.get(unit, "scale")] or (unit is Unit.TIMES and match["percent"]))


def _value(match: re.Match[str], unit: Unit) -> float:
    value = float(f"{match['sign']}{match['digits']}".replace(",", "").replace("−", "-"))
    if match["percent"] or (unit in _SHARES and abs(value) > 1):
        return value / 100
    return value if unit in _SHARES else value * _SCALES.get((match["scale"] or "").lower(), 1)


def text(value: float, unit: Unit) -> str:
    """Return a number as text: `0.9660`, `+50.8 points`, `71,946`, `5.1 times`."""
    if unit is Unit.TIMES:
        return f"{value:.0%}" if abs(value) < 1 else f"{value:,.{0 if value >= 100 else 1}f} times"
    formats = {Unit.SHARE: ".4f", Unit.PERCENT: ".0%", Unit.NUMBER: ",.4g"}
    written = f"{100 * value:+.1f} points" if unit is Unit.POINTS else format(value, formats.get(unit, ",.0f"))
    return written.replace("-", "−")


def compare(predicted: float, measured: float, unit: Unit) -> str:
    """Return how far a prediction is from the number of a run, in words."""
    distance = abs(predicted - measured)
    if unit in _SHARES or (unit is Unit.TIMES and abs(measured) < 1):
        size = f"{100 * distance:.1f} points"
    else:
        size = f"{distance:,.0f}" if unit is Unit.COUNT else f"{distance:,.1f}"
    if float(size.split()[0].replace(",", "")) == 0:
        return "right"
    return f"{size} too {'high' if predicted > measured else 'low'}"


def find_label(prediction: str, labels: Sequence[str]) -> str:
    """Return the label that a prediction names; an empty text where it names none or several.

    A label that is a part of another one that is named too counts for nothing: `sgd` in `plain_sgd`.
    """
    words = f" {_words(prediction)} "
    named = [label for label in labels if f" {_words(label)} " in words]
    named = [label for label in named if not any(label != other and _words(label) in _words(other) for other in named)]
    return named[0] if len(named) == 1 else ""


def _words(label: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", label.lower()))

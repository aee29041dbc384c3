"""Numbers in predictions, and how far they are from those of a run."""

from __future__ import annotations

import re

SHARES = ("accuracy", "difference", "train_accuracy")
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "g": 1e9, "billion": 1e9}
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-−+]?)(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)\s*(?:(?P<percent>%|percent|points?\b|pp\b)|"
    r"(?P<scale>k|m|g|thousand|million|billion)\b)?",
    re.IGNORECASE,
)


def parse(text: str, field: str) -> float | None:
    """Return the number in a prediction, in the unit of a field of summary.json, or None if there is none.

    Of several numbers it is the first with a unit, else the first. A share may be written as 0.97, 97%, 3 points, or 97:
    without a unit, what is above 1 is percent.
    """
    numbers = list(_NUMBER.finditer(re.sub(r"(?<!\d)0,(?=\d)", "0.", text)))  # a decimal comma
    match = next((hit for hit in numbers if hit["percent" if field in SHARES else "scale"]), numbers[0] if numbers else None)
    if match is None:
        return None
    value = float(f"{match['sign']}{match['digits']}".replace(",", "").replace("−", "-"))
    if field in SHARES:
        return value / 100 if match["percent"] or abs(value) > 1 else value
    return value * _SCALES.get((match["scale"] or "").lower(), 1)


def text(value: float, field: str) -> str:
    """Return the value of a field as text: `0.9660`, `+50.8 points`, `71,946`."""
    if field == "difference":
        return f"{100 * value:+.1f} points".replace("-", "−")
    return f"{value:.4f}" if field in SHARES else f"{value:,.0f}"


def compare(predicted: float, measured: float, field: str) -> str:
    """Return how far a prediction is from the number of a run, in words."""
    distance = abs(predicted - measured)
    size = f"{100 * distance:.1f} points" if field in SHARES else f"{distance:,.0f}"
    if float(size.split()[0].replace(",", "")) == 0:
        return "right"
    return f"{size} too {'high' if predicted > measured else 'low'}"

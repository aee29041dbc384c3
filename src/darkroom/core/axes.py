"""The axes of charts: as data, as scales from values to places, and their ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """An axis as data. `shares` are written in percent; `ticks` are those of an axis of names or of few values.

    `floor` is where the axis begins; it then ends at 1.
    """

    label: str = ""
    log: bool = False
    shares: bool = False
    ticks: Mapping[float, str] | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Scale:
    """One axis, linear or logarithmic, from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def position(self, value: float) -> float:
        """Return where a value is on the axis, 0 at `low` and 1 at `high`."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Return about `most` round numbers within the axis."""
        return log_ticks(self.low, self.high, most) if self.log else ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """Return at most `most` numbers from low to high: 1, 2 and 5 times powers of ten, else powers of ten, one in two, in three …

    Where there are fewer than two of them, the ticks are linear.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    if len(values) < 2:
        return ticks(low, high, 4)
    step = 0
    while len(values) > most:
        step += 1
        values = [10.0**power for power in powers if power % step == 0 and low <= 10.0**power <= high]
    return values


def tick_text(value: float, shares: bool) -> str:
    """Return a tick as text: `50%`, `0.02`, `5e-4`, `20k`."""
    if shares:
        return f"{100 * value:g}%"
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if abs(value) < 1e4 else short(value)


def short(value: float) -> str:
    """Return a number with three significant digits and a unit: 1.2k, 34M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def padded(values: Sequence[float], axis: Axis) -> Scale:
    """Return a scale around the values that is never empty."""
    if axis.floor is not None:
        return Scale(axis.floor, 1.0)
    low, high = min(values), max(values)
    if axis.log:
        factor = max((high / low) ** 0.05, 1.05)
        return Scale(low / factor, high * factor, log=True)
    room = max(0.05 * (high - low), 0.005)
    if not axis.shares:
        return Scale(low - room, high + room)
    return Scale(max(low - room, 0.0), min(high + room, 1.0) if high < 1 else 1.0 + room / 2)

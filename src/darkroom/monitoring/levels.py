"""The significance level of each drift test: all tests of 30 days together raise a false alarm with probability `alpha` at most.

The k-th test gets the share 1/k of the level, over the sum of these shares (alpha spending; by Bonferroni's inequality it
holds whatever the tests have in common, such as the reference and most of their images). So the first tests
after a quiet time are the most sensitive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from darkroom.monitoring.history import CheckSettings, DriftCheck
from darkroom.monitoring.prediction_log import LogRow

DAYS = 30
MOST_TESTS = 24 * DAYS  # in these days, one an hour
_SHARES = sum(1 / k for k in range(1, MOST_TESTS + 1))


@dataclass(frozen=True)
class Plan:
    """Whether a check tests: its level, or 0 with the number of series for which it waits. `last` is the last test, if any."""

    level: float
    waiting: int
    last: DriftCheck | None

    @property
    def reason(self) -> str:
        """Say why there is no test."""
        if self.waiting:
            return f"the next test is after {self.waiting} more series"
        return f"no more than {MOST_TESTS} tests are made in {DAYS} days"


def plan(past: Sequence[DriftCheck], checkpoint: str, settings: CheckSettings, rows: Sequence[LogRow], now: datetime) -> Plan:
    """Return whether a check with these settings tests the last series, whose images are `rows`.

    It does so when `min_images` series have arrived since the last test of this checkpoint with these settings.
    """
    last = next((
        item for item in reversed(past)
        if item.is_test and item.checkpoint_sha256 == checkpoint and replace(item.settings, log=settings.log) == settings
    ), None)  # fmt: skip
    began: dict[str, datetime] = {}
    for row in rows:
        name = row.series or row.path
        began[name] = min(began.get(name, row.time), row.time)
    arrived = sum(last is None or time > datetime.fromisoformat(last.tested_at) for time in began.values())
    waiting = max(settings.min_images - arrived, 0)
    earlier = count_recent((item.tested_at for item in past if item.is_test), now)
    return Plan(0.0 if waiting else level(settings.alpha, earlier), waiting, last)


def level(alpha: float, earlier: int) -> float:
    """Return the level of a test after `earlier` ones within `DAYS`; 0 where there were as many as there may be."""
    return alpha / (_SHARES * (earlier + 1)) if earlier < MOST_TESTS else 0.0


def count_recent(times: Iterable[str], now: datetime) -> int:
    """Return how many of these times (ISO 8601) are within `DAYS`; one in the future, before the clock was set back, is."""
    return sum(datetime.fromisoformat(time) > now - timedelta(days=DAYS) for time in times)

"""Whether a challenger may become the champion: every check with its figures, and the verdict in words.

Validation has chosen the challenger; the test split can only veto. Where there is a champion, both are compared on the images
that neither was trained on; where there is none, the absolute checks decide alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from darkroom.config.params import Register
from darkroom.evaluation import calibration, significance

ALPHA = 1 - significance.LEVEL
ROUNDING = 1e-9  # a drop of exactly the limit is within it


@dataclass(frozen=True)
class Candidate:
    """A model as the gate sees it: what it said of the images, and what it costs.

    `val` and `test` are probabilities (N, C) for the labels below; `milliseconds` are per image, `megabytes` those of its weights.
    """

    name: str
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    milliseconds: float
    megabytes: float


@dataclass(frozen=True)
class Truth:
    """The labels (N,) of both splits, and which of their images the champion was not trained on, (N,) bool."""

    classes: tuple[str, ...]
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    fresh_val: np.ndarray = field(repr=False)
    fresh_test: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Check:
    """One check: whether it was passed, what it looked at, and a sentence that says so."""

    name: str
    passed: bool
    words: str
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """All checks, and whether all of them were passed."""

    challenger: str
    champion: str | None
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def words(self) -> str:
        failed = [check.words for check in self.checks if not check.passed]
        against = f"the champion, {self.champion}" if self.champion else "no champion, by the absolute checks alone"
        if failed:
            return f"{self.challenger} against {against}: not promoted, since " + "; ".join(failed)
        return f"{self.challenger} against {against}: passed all {len(self.checks)} checks"

    def as_dict(self) -> dict[str, Any]:
        return {
            "challenger": self.challenger, "champion": self.champion, "passed": self.passed, "words": self.words,
            "checks": [asdict(check) for check in self.checks],
        }  # fmt: skip


def judge(challenger: Candidate, champion: Candidate | None, truth: Truth, limits: Register) -> Verdict:
    """Compare a challenger with the champion, if there is one, and with the limits of `register`."""
    checks = absolute(challenger, truth, limits)
    if champion is not None:
        checks += against(challenger, champion, truth, limits)
    return Verdict(challenger.name, champion.name if champion else None, checks)


def absolute(model: Candidate, truth: Truth, limits: Register) -> list[Check]:
    """Return the checks that need no champion: better than always the same class, calibrated, fast and small enough."""
    accuracy = float((model.test.argmax(1) == truth.test).mean())
    common = float(np.bincount(truth.test).max() / len(truth.test))
    error = calibration.error(model.test, truth.test)
    floor = max(limits.min_accuracy, common)
    made = [
        Check(
            "accuracy", accuracy > floor or accuracy == 1,
            f"test accuracy is {accuracy:.4f}, and has to be above {floor:.4f}"
            + (" (the share of the most common class)" if floor == common else ""),
            {"accuracy": accuracy, "floor": floor, "most_common_class": common},
        ),
        Check(
            "calibration", error <= limits.max_calibration_error,
            f"its confidence is off by {error:.3f} on average, the limit is {limits.max_calibration_error:g}",
            {"expected_calibration_error": error, "limit": limits.max_calibration_error},
        ),
    ]  # fmt: skip
    for name, value, limit, unit in (
        ("latency", model.milliseconds, limits.max_milliseconds, "ms per image"),
        ("size", model.megabytes, limits.max_megabytes, "MB"),
    ):
        if limit is not None:
            made.append(
                Check(
                    name, value <= limit, f"it takes {value:.3g} {unit}, the limit is {limit:g}", {"value": value, "limit": limit}
                )
            )
    return made


def against(challenger: Candidate, champion: Candidate, truth: Truth, limits: Register) -> list[Check]:
    """Return the checks of a challenger against the champion: no worse on validation, nor measurably on test or in any class."""
    made = []
    held, labels = truth.val[truth.fresh_val], truth.test[truth.fresh_test]
    if len(held):
        val = [float((model.val[truth.fresh_val].argmax(1) == held).mean()) for model in (champion, challenger)]
        words = f"validation accuracy is {val[1]:.4f}, the champion's {val[0]:.4f}, on {len(held)} images"
        figures = {"champion": val[0], "challenger": val[1], "images": len(held)}
        made.append(Check("validation", val[1] >= val[0], words, figures))
    if not len(labels):
        words = "the champion was trained on every one of these test images, so that nothing can be compared"
        return [*made, Check("test images", False, words, {"images": 0})]
    first, second = (model.test[truth.fresh_test].argmax(1) for model in (champion, challenger))
    p = significance.mcnemar(first == labels, second == labels)
    intervals = significance.bootstrap(labels, first, second, len(truth.classes))
    accuracy, f1 = intervals["accuracy"], intervals["macro_f1"]
    made += [
        Check(
            "accuracy against the champion",
            accuracy.difference >= -limits.max_drop - ROUNDING and not (p < ALPHA and accuracy.difference < 0),
            f"test accuracy differs by {_shown(accuracy)} on {len(labels)} images, McNemar p {p:.3g}; "
            f"it may fall by {limits.max_drop:g}, and not significantly",
            {**asdict(accuracy), "mcnemar_p": p, "images": len(labels), "limit": limits.max_drop},
        ),
        Check(
            "macro F1 against the champion",
            f1.difference >= -limits.max_drop - ROUNDING and f1.high >= 0,
            f"macro F1 differs by {_shown(f1)}; it may fall by {limits.max_drop:g}, and not significantly",
            {**asdict(f1), "limit": limits.max_drop},
        ),
    ]  # fmt: skip
    drops = significance.class_drops(labels, first, second, len(truth.classes))
    worst = int(drops.argmax())
    made.append(
        Check(
            "every class", bool(drops[worst] <= limits.max_class_drop + ROUNDING),
            f"the recall of {truth.classes[worst]} falls by {max(drops[worst], 0):.3f}, the limit is {limits.max_class_drop:g}",
            {"class": truth.classes[worst], "drop": float(drops[worst]), "limit": limits.max_class_drop},
        )
    )  # fmt: skip
    return made


def _shown(interval: significance.Interval) -> str:
    return f"{interval.difference:+.4f} ({100 * significance.LEVEL:.0f}% interval {interval.low:+.4f} to {interval.high:+.4f})"

"""The promotion gate: every check of a challenger against the champion, with its figures.

Validation selects the challenger; test results can only block its promotion. Where there is a champion, both
are compared on the images that the champion was not trained on. Where there is none, the absolute checks
decide.
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
    """A model as the gate sees it: probabilities (N, C) for both splits, and its costs.

    `milliseconds` are per image, `megabytes` those of its weights.
    """

    name: str
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    milliseconds: float
    megabytes: float


@dataclass(frozen=True)
class Truth:
    """The labels (N,) of both splits, masks (N,) of the images that the champion was not trained on, and
    groups of test images."""

    classes: tuple[str, ...]
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    fresh_val: np.ndarray = field(repr=False)
    fresh_test: np.ndarray = field(repr=False)
    test_groups: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Check:
    """One check: whether it is passed, a sentence about it, and its figures."""

    name: str
    passed: bool
    message: str
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class GateResult:
    """All checks of a challenger."""

    challenger: str
    champion: str | None
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Tell whether all checks are passed."""
        return all(check.passed for check in self.checks)

    @property
    def message(self) -> str:
        """Return one sentence about all checks."""
        failed = [check.message for check in self.checks if not check.passed]
        opponent = f"the champion, {self.champion}" if self.champion else "no champion, by the absolute checks alone"
        if failed:
            return f"{self.challenger} against {opponent}: some checks failed: {'; '.join(failed)}"
        return f"{self.challenger} against {opponent}: passed all {len(self.checks)} checks"

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `verdict` in promotion.json."""
        return {**asdict(self), "passed": self.passed, "message": self.message}


def judge(challenger: Candidate, champion: Candidate | None, truth: Truth, limits: Register) -> GateResult:
    """Compare a challenger with the champion, if there is one, and with the limits of `register`."""
    checks = absolute(challenger, truth, limits)
    if champion is not None:
        checks += against(challenger, champion, truth, limits)
    return GateResult(challenger.name, champion.name if champion else None, checks)


def absolute(model: Candidate, truth: Truth, limits: Register) -> list[Check]:
    """Return the checks without a champion: better than a constant, calibrated, fast and small enough."""
    accuracy = float((model.test.argmax(1) == truth.test).mean())
    common = float(np.bincount(truth.test).max() / len(truth.test))
    error = calibration.error(model.test, truth.test)
    floor = max(limits.min_accuracy, common)
    checks = [
        Check(
            "accuracy", accuracy > floor or accuracy == 1,
            f"test accuracy is {accuracy:.4f}, and has to be above {floor:.4f}"
            + (" (the share of the most common class)" if floor == common else ""),
            {"accuracy": accuracy, "floor": floor, "most_common_class": common},
        ),
        Check(
            "calibration", error <= limits.max_calibration_error,
            f"the calibration error is {error:.3f}, the limit is {limits.max_calibration_error:g}",
            {"expected_calibration_error": error, "limit": limits.max_calibration_error},
        ),
    ]  # fmt: skip
    for name, value, limit, text in (
        ("latency", model.milliseconds, limits.max_milliseconds, "the latency is {:.3g} ms per image"),
        ("size", model.megabytes, limits.max_megabytes, "the weights have {:.3g} MB"),
    ):
        if limit is not None:
            message = f"{text.format(value)}, the limit is {limit:g}"
            checks.append(Check(name, value <= limit, message, {"value": value, "limit": limit}))
    return checks


def against(challenger: Candidate, champion: Candidate, truth: Truth, limits: Register) -> list[Check]:
    """Return the checks against the champion: no worse on validation, nor clearly on test or in a class."""
    checks = []
    val_labels, labels, groups = truth.val[truth.fresh_val], truth.test[truth.fresh_test], truth.test_groups[truth.fresh_test]
    if len(val_labels):
        old, new = (float((model.val[truth.fresh_val].argmax(1) == val_labels).mean()) for model in (champion, challenger))
        message = f"validation accuracy is {new:.4f}, the champion's {old:.4f}, on {len(val_labels)} images"
        figures = {"champion": old, "challenger": new, "images": len(val_labels)}
        checks.append(Check("validation", new >= old, message, figures))
    if not len(labels):
        message = "the champion was trained on all of these test images, so the two cannot be compared"
        return [*checks, Check("test images", False, message, {"images": 0})]
    first, second = (model.test[truth.fresh_test].argmax(1) for model in (champion, challenger))
    p = significance.mcnemar(first == labels, second == labels, groups)
    intervals = significance.bootstrap(labels, first, second, len(truth.classes), groups)
    accuracy, f1 = intervals["accuracy"], intervals["macro_f1"]
    limit = f"it may fall by {limits.max_drop:g}, and not significantly"
    checks += [
        Check(
            "accuracy against the champion",
            accuracy.difference >= -limits.max_drop - ROUNDING and not (p < ALPHA and accuracy.difference < 0),
            f"test accuracy differs by {_text(accuracy)} on {len(labels)} images, McNemar p {p:.3g}; {limit}",
            {**asdict(accuracy), "mcnemar_p": p, "images": len(labels), "limit": limits.max_drop},
        ),
        Check(
            "macro F1 against the champion",
            f1.difference >= -limits.max_drop - ROUNDING and f1.high >= 0,
            f"macro F1 differs by {_text(f1)}; {limit}",
            {**asdict(f1), "limit": limits.max_drop},
        ),
    ]
    drops = significance.class_drops(labels, first, second, len(truth.classes))
    worst = int(drops.argmax())
    checks.append(
        Check(
            "every class", bool(drops[worst] <= limits.max_class_drop + ROUNDING),
            f"the recall of {truth.classes[worst]} falls by {max(drops[worst], 0):.3f}, the limit is {limits.max_class_drop:g}",
            {"class": truth.classes[worst], "drop": float(drops[worst]), "limit": limits.max_class_drop},
        )
    )  # fmt: skip
    return checks


def _text(interval: significance.Interval) -> str:
    return f"{interval.difference:+.4f} ({100 * significance.LEVEL:.0f}% interval {interval.low:+.4f} to {interval.high:+.4f})"

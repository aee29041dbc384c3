"""The promotion gate: every check of a challenger against the champion, with its figures.

Validation selects the challenger; test results can only block its promotion. Where there is a champion, both
are compared on the images that the champion has not learnt. Where there is none, the absolute checks decide.
benchmarks/gate.py simulates how often the gate decides wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from darkroom.config.params import Register
from darkroom.evaluation import calibration, significance

ALPHA = 1 - significance.LEVEL
NOT_BETTER = "better than the champion"  # the check that keeps a challenger back without a veto
BETTER = 0.25  # one-sided p-value below which a challenger is taken for better than the champion
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
    """The labels (N,) and groups (N,) of both splits, and masks (N,) of the images that the champion has not
    learnt."""

    classes: tuple[str, ...]
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    fresh_val: np.ndarray = field(repr=False)
    fresh_test: np.ndarray = field(repr=False)
    val_groups: np.ndarray = field(repr=False)
    test_groups: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Check:
    """One check: whether it is passed, a sentence about it, and its figures."""

    name: str
    passed: bool
    message: str
    figures: Mapping[str, Any]

    @property
    def is_veto(self) -> bool:
        """Whether it blocks a promotion because something is worse, not for want of being better."""
        return not self.passed and self.name != NOT_BETTER


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
    def failed(self) -> list[str]:
        """Return the names of the checks that are not passed."""
        return [check.name for check in self.checks if not check.passed]

    @property
    def is_vetoed(self) -> bool:
        """Tell whether something is worse than it may be; else a challenger that does not pass is just not better."""
        return any(check.is_veto for check in self.checks)

    @property
    def message(self) -> str:
        """Return one sentence about all checks."""
        failed = [check.message for check in self.checks if not check.passed]
        opponent = f"the champion, {self.champion}" if self.champion else "no champion, by the absolute checks alone"
        if failed and not self.is_vetoed:
            return f"{self.challenger} against {opponent}: kept back, not better: {'; '.join(failed)}"
        if failed:
            return f"{self.challenger} against {opponent}: some checks failed: {'; '.join(failed)}"
        return f"{self.challenger} against {opponent}: passed all {len(self.checks)} checks"

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `verdict` in promotion.json."""
        return {**asdict(self), "passed": self.passed, "vetoed": self.is_vetoed, "message": self.message}


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
    """Return the checks against the champion: no worse on validation, on test and in any class, and better
    on both splits together."""
    val, test = truth.fresh_val, truth.fresh_test
    on_val = _Paired(truth.val[val], champion.val[val].argmax(1), challenger.val[val].argmax(1), truth.val_groups[val])
    on_test = _Paired(truth.test[test], champion.test[test].argmax(1), challenger.test[test].argmax(1), truth.test_groups[test])
    checks = [_check_validation(on_val, limits)]
    if not len(on_test.labels):
        message = "the champion has learnt all of these test images, so the two cannot be compared"
        return [*checks, Check("test images", False, message, {"images": 0})]
    return [*checks, *_check_test(on_test, len(truth.classes), limits), _check_classes(on_test, truth.classes, limits),
            _check_better(on_val, on_test)]  # fmt: skip


def against_parent(twin: Candidate, parent: Candidate, truth: Truth, limits: Register) -> list[Check]:
    """Return the checks of a program of lower precision: those without a champion, and that it is smaller than the float32 program
    of the same model, and no worse on test and in any class. `megabytes` are those of the programs."""
    on = _Paired(truth.test, parent.test.argmax(1), twin.test.argmax(1), truth.test_groups)
    smaller = Check(
        "smaller than float32", twin.megabytes < parent.megabytes,
        f"the program has {twin.megabytes:.3g} MB, that of float32 {parent.megabytes:.3g} MB",
        {"value": twin.megabytes, "float32": parent.megabytes},
    )  # fmt: skip
    paired = [*_check_test(on, len(truth.classes), limits, "float32"), _check_classes(on, truth.classes, limits)]
    return [*absolute(twin, truth, limits), *paired, smaller]


@dataclass(frozen=True)
class _Paired:
    """Labels, predictions of the champion and of the challenger, and groups of the same images, each (N,)."""

    labels: np.ndarray
    champion: np.ndarray
    challenger: np.ndarray
    groups: np.ndarray

    @property
    def correct(self) -> tuple[np.ndarray, np.ndarray]:
        return self.champion == self.labels, self.challenger == self.labels

    @property
    def wins(self) -> tuple[int, int]:
        return significance.wins(*self.correct, self.groups)


def _check_validation(on: _Paired, limits: Register) -> Check:
    images = len(on.labels)
    if not images:
        message = "the champion was trained on all of these validation images: validation is not compared"
        return Check("validation", True, message, {"images": 0})
    old, new = (float(correct.mean()) for correct in on.correct)
    limit = max(limits.max_drop, 1 / len(np.unique(on.groups)))  # one image, or one group of the mean size, vetoes nothing
    p = significance.mcnemar(*on.correct, on.groups)
    message = (
        f"validation accuracy is {new:.4f}, the champion's {old:.4f}, on {_count(images)}, McNemar p {p:.3g}; it may fall by "
        f"{limit:.2g}, and not significantly"
    )
    figures = {"champion": old, "challenger": new, "images": images, "mcnemar_p": p, "limit": limit}
    return Check("validation", not _is_worse(new - old, p, limit), message, figures)


def _is_worse(difference: float, p: float, limit: float) -> bool:
    """Tell whether a figure falls significantly by a two-sided test, or by more than the limit and by a one-sided one.

    The size of a drop alone is no evidence: of few groups, equal models differ by more than any limit.
    """
    return difference < 0 and (p < ALPHA or (difference < -limit - ROUNDING and p / 2 < ALPHA))


def _check_test(on: _Paired, classes: int, limits: Register, opponent: str = "the champion") -> list[Check]:
    p = significance.mcnemar(*on.correct, on.groups)
    intervals = significance.bootstrap(on.labels, on.champion, on.challenger, classes, on.groups)
    accuracy, f1 = intervals["accuracy"], intervals["macro_f1"]
    limit = f"it may fall by {limits.max_drop:g}, and not significantly"
    images = len(on.labels)
    return [
        Check(
            f"accuracy against {opponent}",
            not _is_worse(accuracy.difference, p, limits.max_drop),
            f"test accuracy differs by {_text(accuracy)} on {_count(images)}, McNemar p {p:.3g}; {limit}",
            {**asdict(accuracy), "mcnemar_p": p, "images": images, "limit": limits.max_drop},
        ),
        Check(
            f"macro F1 against {opponent}",
            f1.difference >= -limits.max_drop - ROUNDING or f1.high >= 0,
            f"macro F1 differs by {_text(f1)}; {limit}",
            {**asdict(f1), "limit": limits.max_drop},
        ),
    ]


def _check_classes(on: _Paired, classes: tuple[str, ...], limits: Register) -> Check:
    """Return the check of the recall of each class: the maximum of many noisy drops is large by chance, so one
    counts where it is significant too."""
    limit = limits.max_class_drop
    drops = significance.class_drops(on.labels, on.champion, on.challenger, len(classes))
    ps = np.array(significance.class_ps(on.labels, on.champion, on.challenger, len(classes), on.groups))
    vetoing = (drops > limit + ROUNDING) & (ps < significance.SIGNIFICANT)
    worst = int(np.where(np.isnan(ps), -np.inf, np.where(vetoing, drops + 1, drops)).argmax())
    drop, p = float(drops[worst]), float(ps[worst])
    message = f"the recall of {classes[worst]} falls by {drop:.3f} (p {p:.2g}, corrected for the classes), the limit is {limit:g}"
    if drop <= 0:
        message = f"the recall of no class falls, the limit is {limit:g}"
    elif drop > limit + ROUNDING and not vetoing[worst]:
        message += "; it may be chance, so it vetoes nothing"
    figures = {"class": classes[worst], "drop": drop, "p": p, "limit": limit}
    return Check("every class", not vetoing.any(), message, figures)


def _check_better(on_val: _Paired, on_test: _Paired) -> Check:
    """Return the check that replaces the champion only by a model that is probably better."""
    won, lost = (val + test for val, test in zip(on_val.wins, on_test.wins, strict=True))
    p = significance.sign_test(won, lost)
    unit = "group" if any(len(np.unique(on.groups)) < len(on.groups) for on in (on_val, on_test)) else "image"
    message = (
        f"on validation and test together it is right and the champion wrong on {_count(won, unit)}, the reverse on {lost}"
        f" (one-sided p {p:.2g}, has to be below {BETTER:g})"
    )
    if won == lost:
        message += ": a tie keeps the champion"
    return Check(NOT_BETTER, p < BETTER, message, {"won": won, "lost": lost, "p": p, "limit": BETTER})


def _count(number: int, unit: str = "image") -> str:
    return f"{number:,} {unit}{'s' * (number != 1)}"


def _text(interval: significance.Interval) -> str:
    return f"{interval.difference:+.4f} ({100 * significance.LEVEL:.0f}% interval {interval.low:+.4f} to {interval.high:+.4f})"

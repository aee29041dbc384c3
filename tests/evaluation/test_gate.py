"""The promotion gate."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.config.params import Register
from darkroom.evaluation import gate

CLASSES = ("cat", "dog", "owl")
LIMITS = Register.model_validate(
    {
        "name": "darkroom",
        "promote": "gate",
        "min_accuracy": 0.0,
        "max_drop": 0.02,
        "max_class_drop": 0.1,
        "max_calibration_error": 0.2,
        "max_milliseconds": None,
        "max_megabytes": None,
    }
)
LABELS = np.arange(300) % 3


def probabilities(wrong: list[int], confidence: float = 0.95, labels: np.ndarray = LABELS) -> np.ndarray:
    """Return probabilities that are correct except for the images of these numbers."""
    predicted = labels.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 3
    values = np.full((len(labels), 3), (1 - confidence) / 2)
    values[np.arange(len(labels)), predicted] = confidence
    return values


def candidate(
    name: str = "new", wrong: list[int] | None = None, val_wrong: list[int] | None = None, **cost: float
) -> gate.Candidate:
    return gate.Candidate(
        name, probabilities(val_wrong or []), probabilities(wrong or []), cost.get("milliseconds", 1.0), cost.get("megabytes", 10.0)
    )


def truth(fresh: np.ndarray | None = None, groups: np.ndarray | None = None) -> gate.Truth:
    fresh = np.ones(300, bool) if fresh is None else fresh
    return gate.Truth(CLASSES, LABELS, LABELS, fresh, fresh, np.arange(300) if groups is None else groups)


def failed(result: gate.GateResult) -> list[str]:
    return [check.name for check in result.checks if not check.passed]


def test_an_equal_challenger_passes():
    """A model with the same predictions as the champion passes every check, and the result says so."""
    result = gate.judge(candidate(wrong=[1, 2]), candidate("old", wrong=[1, 2]), truth(), LIMITS)
    assert result.passed
    assert result.message == "new against the champion, old: passed all 6 checks"
    assert [check["name"] for check in result.as_dict()["checks"]] == [
        "accuracy", "calibration", "validation", "accuracy against the champion", "macro F1 against the champion", "every class",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("challenger", "names"),
    [
        ({"val_wrong": [0]}, ["validation"]),
        ({"wrong": list(range(0, 21, 7))}, []),  # 1%: not significant, and within the limit
        ({"wrong": list(range(5))}, ["macro F1 against the champion"]),  # p 0.06: the bootstrap is stricter
        ({"wrong": list(range(6))}, ["accuracy against the champion", "macro F1 against the champion"]),
        ({"wrong": list(range(0, 33, 3))}, ["accuracy against the champion", "macro F1 against the champion", "every class"]),
    ],
)
def test_a_worse_challenger_fails_the_checks_of_its_weakness(challenger, names):
    """Worse on validation, measurably worse on test, or in one class: each has its check."""
    assert failed(gate.judge(candidate(**challenger), candidate("old"), truth(), LIMITS)) == names


def test_of_few_images_the_size_of_the_drop_decides():
    """A drop larger than `max_drop` fails although on few images it is not significant; without the limit it
    passes."""
    few = truth(np.arange(300) < 30)
    worse, old = candidate(wrong=[0, 4]), candidate("old")
    assert "accuracy against the champion" in failed(gate.judge(worse, old, few, LIMITS))
    generous = LIMITS.model_copy(update={"max_drop": 0.5, "max_class_drop": 0.5})
    assert failed(gate.judge(worse, old, few, generous)) == []


def test_a_drop_of_exactly_the_limit_passes():
    """A drop of exactly the limit is allowed: 1 of 50 with `max_drop` 0.02, and a recall that falls by just
    `max_class_drop`."""
    fifty = truth(np.arange(300) < 50)
    names = failed(gate.judge(candidate(wrong=[0]), candidate("old"), fifty, LIMITS))
    assert "accuracy against the champion" not in names
    exact = LIMITS.model_copy(update={"max_class_drop": 1 / 17})
    assert "every class" not in failed(gate.judge(candidate(wrong=[0]), candidate("old"), fifty, exact))


def test_test_results_select_nothing():
    """A challenger that is far better on test does not pass if it is worse on validation."""
    better = candidate(val_wrong=[0, 1])
    assert failed(gate.judge(better, candidate("old", wrong=list(range(100))), truth(), LIMITS)) == ["validation"]


def test_images_that_the_champion_was_trained_on_do_not_count():
    """A champion that was trained on test images is compared on the others; where it was trained on all,
    nothing is promoted."""
    fresh = np.arange(300) >= 100
    old = candidate("old", wrong=list(range(100, 110)), val_wrong=list(range(100, 110)))
    new = candidate(wrong=list(range(60)), val_wrong=list(range(60)))
    assert "validation" in failed(gate.judge(new, old, truth(), LIMITS))
    assert failed(gate.judge(new, old, truth(fresh), LIMITS)) == []
    assert failed(gate.judge(new, old, truth(np.zeros(300, bool)), LIMITS)) == ["test images"]


def test_without_a_champion_absolute_checks_decide():
    """A first model must beat the most common class, be calibrated, and keep the limits of time and size."""
    assert gate.judge(candidate(wrong=list(range(20))), None, truth(), LIMITS).passed
    assert failed(gate.judge(candidate(wrong=list(range(200))), None, truth(), LIMITS)) == ["accuracy", "calibration"]
    strict = LIMITS.model_copy(update={"min_accuracy": 0.99, "max_milliseconds": 0.5, "max_megabytes": 5.0})
    result = gate.judge(candidate(wrong=list(range(20))), None, truth(), strict)
    assert failed(result) == ["accuracy", "latency", "size"]
    assert all(fact in result.message for fact in ("some checks failed", "0.9333", "0.9900", "1 ms per image", "10 MB"))
    assert gate.judge(candidate(), None, truth(), LIMITS.model_copy(update={"min_accuracy": 1.0})).passed


def test_copies_of_an_image_count_once():
    """Six mistakes on distinct images are significant; on copies of one image, which form a group, they are
    not."""
    worse, old = candidate(wrong=list(range(0, 18, 3))), candidate("old")
    generous = LIMITS.model_copy(update={"max_drop": 0.05, "max_class_drop": 1.0})
    assert "accuracy against the champion" in failed(gate.judge(worse, old, truth(), generous))
    copies = np.where(np.isin(np.arange(300), np.arange(0, 18, 3)), 0, np.arange(300))
    assert failed(gate.judge(worse, old, truth(groups=copies), generous)) == []

"""The promotion gate."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.config.params import Register
from darkroom.evaluation import gate, significance

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


def truth(fresh: np.ndarray | None = None, groups: np.ndarray | None = None, fresh_val: np.ndarray | None = None) -> gate.Truth:
    fresh = np.ones(300, bool) if fresh is None else fresh
    groups = np.arange(300) if groups is None else groups
    return gate.Truth(CLASSES, LABELS, LABELS, fresh if fresh_val is None else fresh_val, fresh, groups, groups)


BETTER = "better than the champion"


def failed(result: gate.GateResult) -> list[str]:
    return result.failed


def vetoes(result: gate.GateResult) -> list[str]:
    """Return the failed checks but that of being better: those that say what is worse."""
    return [name for name in result.failed if name != BETTER]


def check(result: gate.GateResult, name: str) -> gate.Check:
    return next(check for check in result.checks if check.name == name)


def test_a_better_challenger_passes():
    """A model that is right where the champion is wrong passes every check, and the result says so."""
    result = gate.judge(candidate(wrong=[1, 2]), candidate("old", wrong=[1, 2, 3, 4, 5]), truth(), LIMITS)
    assert result.passed
    assert result.message == "new against the champion, old: passed all 7 checks"
    assert [check["name"] for check in result.as_dict()["checks"]] == [
        "accuracy", "calibration", "validation", "accuracy against the champion", "macro F1 against the champion", "every class",
        "better than the champion",
    ]  # fmt: skip


def test_a_tie_keeps_the_champion():
    """A challenger with as many correct images as the champion, the same or others, is not promoted, and the check says why."""
    for wrong in ([1, 2], [3, 4]):
        result = gate.judge(candidate(wrong=wrong), candidate("old", wrong=[1, 2]), truth(), LIMITS)
        assert failed(result) == [BETTER]
        assert "a tie keeps the champion" in result.message
        assert "kept back, not better" in result.message
        assert not result.is_vetoed
        assert not result.as_dict()["vetoed"]


@pytest.mark.parametrize(("won", "lost", "passes"), [(2, 0, False), (3, 0, True), (3, 1, False), (4, 1, True), (1, 3, False)])
def test_better_is_probably_better(won, lost, passes):
    """Of the images of both splits that one model alone classifies correctly, the challenger needs clearly more: p below 0.25."""
    new, old = range(lost), range(10, 10 + won)
    result = gate.judge(candidate(val_wrong=list(new)), candidate("old", wrong=list(old)), truth(), LIMITS)
    assert (BETTER not in failed(result)) == passes
    assert (check(result, BETTER).figures["won"], check(result, BETTER).figures["lost"]) == (won, lost)


@pytest.mark.parametrize(
    ("challenger", "names"),
    [
        ({"val_wrong": [0]}, []),  # one image
        ({"val_wrong": list(range(6))}, ["validation"]),  # 2%, and significant
        ({"val_wrong": list(range(5))}, []),
        ({"wrong": list(range(0, 21, 7))}, []),  # 1%: not significant, and within the limit
        ({"wrong": list(range(5))}, []),  # p 0.06, and within the limit
        ({"wrong": list(range(6))}, ["accuracy against the champion"]),  # p 0.03; macro F1 is within the limit
        ({"wrong": list(range(0, 30, 3))}, ["accuracy against the champion", "macro F1 against the champion"]),  # 10% of a class
        ({"wrong": list(range(0, 33, 3))}, ["accuracy against the champion", "macro F1 against the champion", "every class"]),
    ],
)
def test_a_worse_challenger_fails_the_checks_of_its_weakness(challenger, names):
    """Worse on validation, measurably worse on test, or in one class: each has its check."""
    result = gate.judge(candidate(**challenger), candidate("old"), truth(), LIMITS)
    assert vetoes(result) == names
    assert BETTER in failed(result)


def test_a_drop_on_few_images_may_be_chance():
    """A drop larger than `max_drop` is no veto where it is not significant, two images of thirty; one of five is, although a
    two-sided test would not say so. Such a challenger is not better."""
    few = truth(np.arange(300) < 30)
    worse, old = candidate(wrong=[0, 4]), candidate("old")
    assert failed(gate.judge(worse, old, few, LIMITS)) == [BETTER]
    five = candidate(wrong=[0, 4, 8, 10, 14])
    assert "accuracy against the champion" in failed(gate.judge(five, old, few, LIMITS))
    generous = LIMITS.model_copy(update={"max_drop": 0.5, "max_class_drop": 0.5})
    assert vetoes(gate.judge(five, old, few, generous)) == []


def test_a_drop_of_exactly_the_limit_passes():
    """A drop of exactly the limit is allowed: 1 of 50 with `max_drop` 0.02, and a recall that falls by just
    `max_class_drop`."""
    fifty = truth(np.arange(300) < 50)
    names = failed(gate.judge(candidate(wrong=[0]), candidate("old"), fifty, LIMITS))
    assert "accuracy against the champion" not in names
    exact = LIMITS.model_copy(update={"max_class_drop": 1 / 17})
    assert "every class" not in failed(gate.judge(candidate(wrong=[0]), candidate("old"), fifty, exact))


def test_test_results_select_nothing():
    """A challenger that is far better on test does not pass if it is clearly worse on validation."""
    better = candidate(val_wrong=list(range(7)))
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


def test_a_validation_that_is_not_compared_is_listed():
    """Where the champion was trained on all validation images, the check is there, passes, and says so."""
    new, old = candidate(val_wrong=list(range(60))), candidate("old", wrong=[1, 2, 3])
    result = gate.judge(new, old, truth(fresh_val=np.zeros(300, bool)), LIMITS)
    assert result.passed
    assert "validation is not compared" in check(result, "validation").message


def test_one_validation_image_vetoes_nothing():
    """Of few validation images one that is lost is more than `max_drop`, and no veto; nor are five of one group. Five are."""
    five = list(range(5))
    for lost, groups, names in (([0], None, []), (five, None, ["validation"]), (five, np.arange(300) // 5, [])):
        few = truth(fresh_val=np.arange(300) < 20, groups=groups)
        assert vetoes(gate.judge(candidate(val_wrong=lost), candidate("old"), few, LIMITS)) == names


def test_noise_in_a_class_is_no_veto():
    """A recall that falls by more than the limit on five images is named, and vetoes nothing: it may be chance."""
    few = truth(np.arange(300) < 15)
    result = gate.judge(candidate(wrong=[0, 3]), candidate("old", wrong=[1, 4, 7, 2, 5]), few, LIMITS)
    assert result.passed
    assert "the recall of cat falls by 0.400 (p 0.75" in check(result, "every class").message
    assert "may be chance" in check(result, "every class").message


def test_classes_without_images_have_no_figures():
    """A class that has no fresh test images is never the worst one, so every figure is a number; the best drop may be a rise."""
    fresh = truth(LABELS > 0)  # no cat
    result = gate.judge(candidate(), candidate("old", wrong=list(range(1, 300, 3)) + list(range(2, 300, 3))), fresh, LIMITS)
    figures = check(result, "every class").figures
    assert (figures["class"], figures["drop"], figures["p"]) == ("dog", -1, 1)
    assert "the recall of no class falls" in check(result, "every class").message


def test_equal_models_are_rarely_vetoed_for_a_class():
    """With 20 classes of 20 images equal models are vetoed for a class in at most about 5% of cases; a class that is lost
    vetoes."""
    rng, labels = np.random.default_rng(0), np.arange(400) % 20
    groups, runs, vetoed, limit = np.arange(400), 200, 0, 0.1

    def predictions(difficulty: np.ndarray) -> np.ndarray:
        right = 0.7**0.5 * difficulty + 0.3**0.5 * rng.standard_normal(400) < 1.28
        return np.where(right, labels, (labels + 1) % 20)

    for _ in range(runs):
        first, second = (predictions(difficulty) for difficulty in [rng.standard_normal(400)] * 2)
        drops = significance.class_drops(labels, first, second, 20)
        ps = np.array(significance.class_ps(labels, first, second, 20, groups))
        vetoed += bool(((drops > limit) & (ps < significance.SIGNIFICANT)).any())
    assert vetoed / runs < 0.05
    second[labels == 7] = 0
    assert significance.class_ps(labels, labels, second, 20, groups)[7] < 0.001


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
    assert vetoes(gate.judge(worse, old, truth(groups=copies), generous)) == []


def test_copies_of_an_image_win_once():
    """Three images that the challenger alone gets right make it better, unless they are copies of one."""
    old = candidate("old", wrong=[0, 3, 6])
    assert gate.judge(candidate(), old, truth(), LIMITS).passed
    copies = np.where(np.isin(np.arange(300), [0, 3, 6]), 0, np.arange(300))
    result = gate.judge(candidate(), old, truth(groups=copies), LIMITS)
    assert failed(result) == [BETTER]
    assert "on 1 group, the reverse on 0" in result.message


def test_a_program_of_lower_precision_is_compared_with_its_parent():
    """It passes where it is smaller and as good by the paired tests, also if no better; where it is significantly worse on test,
    or not smaller, the check that fails has the figure. Validation, which calibrates it, is not compared."""
    parent = candidate("float32", wrong=[1, 2], megabytes=10.0)
    same = gate.against_parent(candidate("int8", wrong=[2, 3], val_wrong=list(range(9)), megabytes=3.0), parent, truth(), LIMITS)
    assert all(check.passed for check in same)
    assert [check.name for check in same] == [
        "accuracy", "calibration", "accuracy against float32", "macro F1 against float32", "every class", "smaller than float32",
    ]  # fmt: skip
    worse = gate.against_parent(candidate("int8", wrong=list(range(40)), megabytes=11.0), parent, truth(), LIMITS)
    failed = {check.name: check.message for check in worse if not check.passed}
    assert {"accuracy against float32", "macro F1 against float32", "smaller than float32"} <= set(failed)
    assert "differs by -0.1267" in failed["accuracy against float32"]
    assert "11 MB" in failed["smaller than float32"]

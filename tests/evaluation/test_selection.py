"""The choice of the best model."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import leaderboard, selection
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Metrics
from darkroom.evaluation.selection import Judged, exchange, select

CLASSES = ("a", "b")


def judged(seed: int, count: int, groups: int | None = None, **accuracies: float) -> Judged:
    """Return models that are right with these probabilities, independently; `x_y` is called `x/y`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    member = np.arange(count) % (groups or count)
    probabilities = {}
    for name, accuracy in accuracies.items():
        correct = (rng.random(groups or count) < accuracy)[member]
        own = np.where(correct, 0.8, 0.2)
        table = np.stack([np.where(labels == 0, own, 1 - own), np.where(labels == 1, own, 1 - own)], 1)
        probabilities[name.replace("_", "/", 1)] = table
    return Judged(labels, member.astype(str), probabilities, CLASSES)


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "macro_f1", "balanced_accuracy"])
def test_a_clearly_better_model_is_chosen_whatever_its_kind(metric):
    """Beyond chance the images decide, by each metric, and the others are told apart from it."""
    best, chosen = select(metric, judged(0, 400, baseline=0.95, finetune_x=0.7))
    assert (best, chosen.leader, chosen.indistinguishable) == ("baseline", "baseline", [])
    assert (chosen.metric, chosen.images, chosen.groups, chosen.folds) == (metric, 400, 400, 0)


def test_few_images_do_not_overrule_the_preference():
    """Of models that so few images cannot tell apart, the fine-tuned one is chosen, and the others are named."""
    chosen_kinds = [select("log_loss", judged(seed, 10, baseline=0.8, transfer_x=0.8, finetune_x=0.8))[0] for seed in range(60)]
    assert chosen_kinds.count("finetune/x") >= 40
    best, chosen = select("log_loss", judged(3, 6, baseline=1.0, transfer_x=0.8, finetune_x=0.9))
    assert set(chosen.indistinguishable) == {"baseline", "transfer/x", "finetune/x"} - {best}


def test_the_choice_depends_on_no_order():
    """The order of models and of images changes nothing."""
    data = judged(5, 40, baseline=0.7, transfer_x=0.72, finetune_x=0.7, finetune_y=0.7)
    order = np.random.default_rng(0).permutation(40)
    other = Judged(
        data.labels[order], data.groups[order], {name: data.probabilities[name][order] for name in reversed(data.probabilities)},
        CLASSES,
    )  # fmt: skip
    (one, first), (two, second) = select("log_loss", data), select("log_loss", other)
    assert (one, first.leader, set(first.indistinguishable)) == (two, second.leader, set(second.indistinguishable))


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1"])
@pytest.mark.parametrize("groups", [None, 12])
def test_equal_models_are_seldom_told_apart(metric, groups):
    """Of equal models at most about 5% have a p-value below 0.05, also where images come in groups."""
    ps = [exchange(metric, judged(seed, 48, groups, a=0.7, b=0.7), "a", "b").p for seed in range(200)]
    assert np.mean(np.array(ps) < 0.05) <= 0.08
    assert exchange(metric, judged(0, 400, a=0.9, b=0.6), "a", "b").p < 0.01


def test_the_exchange_agrees_with_the_sign_flips_of_differences():
    """For a mean over images, exchanging predictions flips the sign of differences; one lead of the other is its negative."""
    data = judged(1, 30, a=0.8, b=0.6)
    losses = {name: -np.log(table[np.arange(30), data.labels]) for name, table in data.probabilities.items()}
    difference = losses["b"] - losses["a"]
    compared = exchange("log_loss", data, "a", "b")
    assert compared.lead == pytest.approx(difference.mean())
    assert compared.deviation == pytest.approx(np.sqrt((difference**2).sum()) / 30, rel=0.1)
    other = exchange("log_loss", data, "b", "a")
    assert (other.lead, other.p) == (pytest.approx(-compared.lead), pytest.approx(compared.p, abs=0.03))


def test_a_class_without_images_leaves_the_choice_to_the_preference():
    """No accuracy chooses where a class has no images: the fine-tuned model stays, and the class is named."""
    data = judged(0, 100, baseline=0.99, finetune_x=0.6)
    best, chosen = select("accuracy", Judged(data.labels, data.groups, data.probabilities, (*CLASSES, "rare")))
    assert (best, chosen.leader, chosen.absent_classes) == ("finetune/x", "baseline", ["rare"])
    text = leaderboard.describe_selection(Metrics.model_construct(best=best, selection=chosen, models={}))
    assert "rare" in text
    assert "cross_validation" in text


def test_the_sentence_says_what_the_choice_rests_on():
    """It names the metric, the images, their groups or folds, and the models that they do not tell apart."""
    best, chosen = select("macro_f1", judged(3, 12, 6, baseline=0.8, finetune_x=0.8))
    models = dict.fromkeys(("baseline", "finetune/x", PIXEL_BASELINE))
    text = leaderboard.describe_selection(Metrics.model_construct(best=best, selection=chosen, models=models))
    for fact in (best, "macro F1", "12 validation images in 6 groups", *chosen.indistinguishable):
        assert fact in text
    folded = chosen.model_copy(update={"folds": 5, "indistinguishable": []})
    text = leaderboard.describe_selection(Metrics.model_construct(best=best, selection=folded, models=models))
    assert "12 images of 5 folds" in text
    assert leaderboard.describe_selection(Metrics.model_construct(best=best, selection=None, models={})) == ""
    assert selection.KINDS == ("finetune", "transfer", "baseline")

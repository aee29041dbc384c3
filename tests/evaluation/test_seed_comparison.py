"""Groups of runs over their seeds: intervals that hold, differences that are real, p-values that are
corrected."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from darkroom.evaluation import seed_comparison
from darkroom.evaluation.seed_comparison import Trial
from tests.browser import chromium, opened  # noqa: F401


def trial(value, seed, started=0.0, **params):
    named = {"stage": "transfer", "backbone": "vgg16", "compute.seed": str(seed)} | {
        key.replace("_", "."): v for key, v in params.items()
    }
    metrics = {"accuracy": value, "duration_seconds": 10.0 * value, "parameters": 5.0}
    return Trial(f"run {value} {seed}", named, metrics, started)


def test_runs_that_differ_only_in_their_seeds_are_a_group():
    """Other params make a group of its own, which is named by them; of runs with the same seeds the newest
    counts."""
    trials = [
        trial(0.5, 0, 1, transfer_lr="0.1"), trial(0.7, 1, 2, transfer_lr="0.1", augment_seed="4"),
        trial(0.1, 0, 3, transfer_lr="0.2"), trial(0.2, 0, 4, transfer_lr="0.2"),
    ]  # fmt: skip
    first, second = seed_comparison.groups(trials, "accuracy")
    assert (first.label, second.label) == ("transfer@vgg16, transfer.lr=0.1", "transfer@vgg16, transfer.lr=0.2")
    assert (len(first.runs), len(second.runs)) == (2, 1)
    assert second.mean.value == 0.2
    assert math.isnan(second.mean.low)
    assert first.seconds == pytest.approx(6)
    assert first.difference is first.p is None
    assert second.difference.value == pytest.approx(-0.4)
    assert math.isnan(second.p)
    assert seed_comparison.groups(trials, "accuracy", first="lr=0.2")[0].label == second.label


def test_a_mean_has_students_interval():
    """The interval is that of SciPy's t distribution."""
    values = [0.9, 0.92, 0.95, 0.91]
    estimate = seed_comparison.mean(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_p_values_of_several_groups_are_corrected():
    """With two comparisons the smaller p-value is doubled, as in Holm's procedure."""
    draw = np.random.default_rng(1)
    values = [draw.normal(centre, 0.02, 6) for centre in (0.90, 0.91, 0.94)]
    trials = [trial(float(v), seed, i, transfer_lr=str(i)) for i, group in enumerate(values) for seed, v in enumerate(group)]
    _, *others = seed_comparison.groups(trials, "accuracy")
    plain = [float(stats.ttest_rel(group, values[0]).pvalue) for group in values[1:]]
    smaller, larger = sorted(plain)
    expected = {smaller: 2 * smaller, larger: max(2 * smaller, larger)}
    assert [group.p for group in others] == pytest.approx([expected[p] for p in plain])


@pytest.mark.parametrize("same", [True, False])
def test_differences_are_students_or_welchs(same):
    """With the same seeds the difference is paired, with other seeds it is Welch's; both agree with SciPy."""
    draw = np.random.default_rng(0)
    one, two = draw.normal(0.9, 0.01, 5), draw.normal(0.92, 0.03, 5)
    trials = [trial(float(v), seed, 0, transfer_lr="1") for seed, v in enumerate(one)]
    trials += [trial(float(v), seed + 9 * (not same), 1, transfer_lr="2") for seed, v in enumerate(two)]
    _, second = seed_comparison.groups(trials, "accuracy")
    expected = stats.ttest_rel(two, one) if same else stats.ttest_ind(two, one, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert second.paired == same
    assert second.p == pytest.approx(expected.pvalue)
    assert (second.difference.low, second.difference.high) == pytest.approx((interval.low, interval.high))


def test_constant_values_are_not_significant():
    """Equal constant groups have p 1; a difference that is the same for every seed has neither p nor
    interval."""
    for other, p in ((0.5, 1.0), (0.6, math.nan)):
        trials = [trial(0.5, seed, 0, a_b="1") for seed in (0, 1)] + [trial(other, seed, 1, a_b="2") for seed in (0, 1)]
        second = seed_comparison.groups(trials, "accuracy")[1]
        assert second.p == pytest.approx(p, nan_ok=True)
        assert math.isnan(second.difference.low) == math.isnan(p)


def test_group_names_are_unique():
    """Many differing params are abbreviated, runs of an earlier version are named as such, and no two names
    are equal."""
    many = [{f"x.k{i}": str(i + group) for i in range(8)} for group in range(2)]
    trials = [Trial(str(i), {"stage": "baseline", **params}, {"accuracy": 0.5}, i) for i, params in enumerate([*many, {}])]
    labels = [group.label for group in seed_comparison.groups(trials, "accuracy")]
    assert labels[0] == "baseline, x.k0=0, x.k1=1, x.k2=2, x.k3=3, x.k4=4, and 3 more"
    assert labels[2] == "baseline, 8 params not recorded"
    twins = [
        Trial(str(i), {"stage": "b", **{f"x.k{j}": "1" for j in range(5)}, "x.k5": str(i), "x.z": str(i)}, {"a": 1.0}, i)
        for i in (0, 1)
    ]
    labels = [group.label for group in seed_comparison.groups(twins, "a")]
    assert len(set(labels)) == 2
    same = [
        Trial(str(i), {"stage": "b", **{f"x.k{j}": str(i // 8) for j in range(5)}, "x.z": str(i)}, {"a": 1.0}, i) for i in range(3)
    ]
    assert len({group.label for group in seed_comparison.groups(same, "a")}) == 3
    same = [Trial(str(i), {"stage": "b", "x.z": str(i), **{f"x.{k}": str(i) for k in "abcde"}}, {"a": 1.0}, i) for i in range(2)]
    copies = [Trial(str(i), {**same[0].params, "y.z": str(i)}, {"a": 1.0}, i) for i in range(4)]
    assert len({group.label for group in seed_comparison.groups(copies, "a")}) == 4


@pytest.mark.slow
def test_the_page_shows_means_and_curves(tmp_path):
    """The page has every group, an interval for those with several runs, and the curves; the browser reports
    no error."""
    trials = [trial(0.5 + seed / 100, seed, 0, transfer_lr="<1>") for seed in range(3)] + [trial(0.6, 0, 1, transfer_lr="2")]
    groups = seed_comparison.groups(trials, "accuracy")
    curves = {"validation loss": {group.label: [(1.0, 0.5), (2.0, 0.25)] for group in groups}}
    page = seed_comparison.page(groups, "accuracy", curves, 3)
    assert page.count('class="dot"') == 2
    assert "transfer.lr=&lt;1&gt;" in page
    assert "<1>" not in page
    assert "+0.0900" in page
    assert page.count("<polyline") == 2
    names, rows = seed_comparison.columns(groups, "accuracy")
    assert len(names) == len(rows[0]) == len(rows[1])
    assert rows[1][names.index("low")] is None
    header, cells = seed_comparison.table(groups, "accuracy")
    assert header[:3] == ["", "runs", "accuracy"]
    assert cells[1][1:4] == ["1", "0.6000", "none"]
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with opened(tmp_path / "page.html"):
        pass

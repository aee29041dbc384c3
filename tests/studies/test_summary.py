"""The statistics of a study."""

from __future__ import annotations

import math

import pytest

from darkroom.studies import summary
from darkroom.studies.run_config import Member, Outcome


def outcome(panel: str, label: str, seed: int, accuracy: float) -> Outcome:
    row = {"step": 1, "train_loss": 1.0, "train_accuracy": accuracy, "val_loss": None, "val_accuracy": accuracy}
    return Outcome(Member(panel, label, seed, "mlp"), [row], [{"step": 0, "layer": "a", "std": 1.0}], 10, 20, 0.5)


MADE = [
    outcome("p", label, seed, base + 0.01 * seed + shift)
    for label, base, shift in (("a", 0.5, 0.0), ("b", 0.6, 0.001), ("c", 0.5, 0.0)) for seed in range(3)
] + [outcome("q", "a", seed, 0.3 + 0.01 * seed**2) for seed in range(3)]  # fmt: skip
MADE[4] = outcome("p", "b", 1, 0.613)


def test_differences_are_paired_and_corrected_over_the_study():
    """Each label is compared with the first of its panel, over the same seeds; Holm counts all comparisons of the study."""
    a, b, c, q = summary.lines(MADE)
    assert a.difference is None
    assert q.difference is None
    assert b.difference.value == pytest.approx(0.1017, abs=1e-4)
    assert b.difference.high - b.difference.low < 0.01 < a.accuracy.high - a.accuracy.low
    assert c.p == 1
    from darkroom.evaluation.seed_comparison import against

    alone = against({i: o.accuracy for i, o in enumerate(MADE[:3])}, {i: o.accuracy for i, o in enumerate(MADE[3:6])})[1]
    assert b.p == pytest.approx(2 * alone)


def test_what_is_no_number_is_none():
    """JSON and CSV hold no NaN: a missing number is null there, an empty field here."""
    rows = summary.as_rows(summary.lines(MADE))
    assert rows[0]["difference"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row.values())
    assert ",," in summary.results(MADE)
    assert "nan" not in summary.results(MADE)


def test_a_difference_is_printed_in_points():
    """Differences are percentage points with a sign."""
    _, b, *_ = summary.lines(MADE)
    assert summary.said(b.difference, "+").startswith("+10.2 points (+")


def test_equal_multiply_adds_are_equal():
    """In the study of architectures steps times the cost of a step is the same for all, within half a step."""
    from darkroom.config import study_params
    from darkroom.config.params import read_yaml
    from darkroom.studies import architecture
    from tests.conftest import ROOT

    settings = study_params.parse(read_yaml(ROOT / "studies" / "params.yaml")).architecture.quick
    members = [member for member in architecture.members(settings, 1000) if member.seed == 0]
    for member in members:
        step = architecture.multiply_adds(member.architecture, 16, 1, member.options) * 64 * 3
        assert abs(member.steps * step - 30e9) <= step / 2
    assert len({member.steps for member in members}) == len(members)


def test_the_pareto_front_is_not_beaten():
    """A label is on the front where no other has a higher accuracy at no higher cost."""
    from dataclasses import replace

    from darkroom.evaluation.seed_comparison import Estimate
    from darkroom.studies.architecture import pareto

    line = summary.lines(MADE)[0]
    made = [("a", 10, 0.5), ("b", 20, 0.4), ("c", 20, 0.6), ("d", 5, 0.2), ("e", 40, 0.6)]
    lines = [replace(line, label=label, multiply_adds=cost, accuracy=Estimate(value)) for label, cost, value in made]
    assert pareto(lines) == ["d", "a", "c"]


def test_scaled_networks_cost_nearly_the_same():
    """In the study of scaling every way but the base comes within a quarter of the multiply-adds that the panel asks for."""
    from darkroom.config import study_params
    from darkroom.config.params import read_yaml
    from darkroom.studies import scaling
    from tests.conftest import ROOT

    settings = study_params.parse(read_yaml(ROOT / "studies" / "params.yaml")).scaling.quick
    base = scaling._cost(settings, (1.0, 1.0, 1.0))
    for factor in settings.factors:
        for way in scaling.WAYS:
            found = scaling._cost(settings, scaling.scale(settings, way, factor)) / base
            assert abs(math.log(found / factor)) < math.log(1.25), (way, factor, found)


def test_an_ensemble_is_the_mean_of_probabilities(sample):
    """In the study of practice networks together answer by their mean, cost the sum, and one network answers as it does alone."""
    from dataclasses import replace

    import numpy as np

    from darkroom.config import study_params
    from darkroom.config.params import read_yaml
    from darkroom.studies import practice
    from tests.conftest import ROOT

    settings = study_params.parse(read_yaml(ROOT / "studies" / "params.yaml")).practice.quick
    rng = np.random.default_rng(0)
    made = []
    for member in practice.members(settings, 100):
        answers = {way: rng.dirichlet(np.ones(3), len(sample.held_labels)).tolist() for way in member.ways}
        made.append(replace(outcome("", "", 0, 0.5), member=member, answers=answers))
    found = practice.derived(settings, made, sample)
    by = {(o.member.label, o.member.seed): o for o in found if o.member.panel == practice.TOGETHER}
    small = [o for o in made if o.member.label == practice.SMALL][5:10]
    mean = np.mean([o.answers["plain"] for o in small], 0)
    five = by["5 together", 1]
    assert five.accuracy == (mean.argmax(1) == sample.held_labels).mean()
    assert five.multiply_adds == 5 * small[0].multiply_adds
    assert by["5 together, five crops", 1].multiply_adds == 25 * small[0].multiply_adds
    alone = next(o for o in found if (o.member.panel, o.member.label, o.member.seed) == (practice.ASKED, "plain", 5))
    assert by["one", 1].accuracy == alone.accuracy

"""What `benchmarks/recipe_trials.py` compares: averages of weights, and differences that are paired over splits."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.augmentation.policies import POLICIES
from tests.conftest import ROOT


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Return a function that imports a benchmark by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_an_import_adds_no_policy(load):
    """Policies of a trial are none of Darkroom's: what only imports the benchmark has the policies as before."""
    before = list(POLICIES)
    importlib.reload(load("recipe_variations"))
    assert list(POLICIES) == before


def test_averaged_weights_predict_and_the_newest_are_trained(load):
    """With the share 1/n of the newest weights after step n, a model predicts with the mean of the weights after each step, and
    training goes on from the newest."""
    variations: ModuleType = load("recipe_variations")
    linear = nn.Linear(3, 2)
    model = variations.Averaged(linear, lambda step: 1 / step)
    optimizer, weights = torch.optim.SGD(linear.parameters(), 0.5), []
    for _ in range(2):  # epochs
        model.train()
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
            weights.append((linear.weight.detach().clone(), linear.bias.detach().clone()))
        model.eval()
        mean = [torch.stack(parts).mean(0) for parts in zip(*weights, strict=True)]
        expected = nn.functional.linear(torch.ones(1, 3), *mean)
        torch.testing.assert_close(model(torch.ones(1, 3)), expected)
        torch.testing.assert_close(linear.weight.detach(), weights[-1][0])


def test_the_mean_of_the_last_half_leaves_out_the_first(load):
    """The average of the second half of ten steps weighs each of these alike, and none before."""
    variations: ModuleType = load("recipe_variations")
    average = 0.0
    for step in range(1, 11):
        average += (step - average) * variations.last_half(10, step)
    assert average == pytest.approx(np.mean([6, 7, 8, 9, 10]))


def test_differences_are_paired_and_corrected(load):
    """A variation that is better by the same on each split has that difference; p-values are at least those before correction."""
    trials: ModuleType = load("recipe_trials")
    cases = [("roses", seed) for seed in range(4)]

    def results(*accuracies: float) -> dict[tuple[str, int], dict[str, float]]:
        return {case: {"accuracy": a, "log loss": 1 - a, "seconds": 1.0} for case, a in zip(cases, accuracies, strict=True)}

    figures = {
        "recipe": results(0.5, 0.9, 0.7, 0.6),
        "better": results(0.52, 0.91, 0.72, 0.62),
        "other": results(0.4, 0.95, 0.8, 0.55),
    }
    rows = {row["variation"]: row for row in trials.summarise(figures)}
    assert rows["better"]["accuracy difference"].startswith("+1.75 (")
    assert rows["better"]["roses"] == "+1.8"
    _, p, paired = trials.seed_comparison.against(
        {case: row["accuracy"] for case, row in figures["recipe"].items()},
        {case: row["accuracy"] for case, row in figures["better"].items()},
    )
    assert paired
    assert float(rows["better"]["p of accuracy"]) == pytest.approx(2 * p, rel=0.05)

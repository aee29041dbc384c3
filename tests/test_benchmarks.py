"""What benchmarks count as a failure."""

from __future__ import annotations

import importlib

import pytest

from tests.conftest import ROOT


@pytest.fixture
def kills(monkeypatch):
    """Return the module benchmarks/kills.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("kills")


@pytest.mark.parametrize(("seconds", "allowed"), [(0.1, 50), (2.0, 3), (5.0, 1), (60.0, 1)])
def test_a_kill_may_repeat_an_epoch_or_seconds_of_shorter_ones(kills, seconds, allowed):
    """Of two runs of a stage, whose epochs both count, a kill may repeat one epoch of five seconds, and five seconds of shorter
    ones; without a kill none may be repeated."""
    runs = {"killed": range(1, 5), "next": range(3, 7)}
    rows = [
        ("finetune@a", run, epoch, int(epoch * seconds * 1000) + (run == "next") * 10**6) for run in runs for epoch in runs[run]
    ]
    epochs = kills.epochs_of(reversed([*rows, ("baseline", "one", 1, 5)]))
    assert {stage: item.repeated for stage, item in epochs.items()} == {"finetune@a": 2, "baseline": 0}
    assert epochs["finetune@a"].seconds == pytest.approx(seconds)
    assert [epochs["finetune@a"].allowed(count) for count in (0, 1, 2)] == [0, allowed, 2 * allowed]

"""The recipes that the repository ships."""

from __future__ import annotations

from darkroom.config import recipes
from tests.conftest import ROOT


def test_every_recipe_states_its_claim(monkeypatch):
    """A recipe's header says what it runs, how long it takes on two cores and the accuracy to expect."""
    monkeypatch.chdir(ROOT)
    for name in recipes.names():
        header = recipes.header(name).lower()
        assert "two cores" in header, name
        assert "accuracy" in header, name


def test_recipes_decide_the_same_keys(monkeypatch):
    """Every recipe sets the same keys, so that one fully replaces another."""
    monkeypatch.chdir(ROOT)
    keys = {frozenset(recipes.values(name)) - {"ingest.source", "fetch.datasets"} for name in recipes.names()}
    assert len(keys) == 1

"""The recipes that the repository ships."""

from __future__ import annotations

import pytest

from darkroom.config import params, recipes
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


@pytest.mark.parametrize("items", [["vgg11"], [], ["vgg11", "vgg13"]])
@pytest.mark.parametrize(
    "block",
    [
        "backbones:\n- vgg16\n- resnet18\n\n",
        "backbones:  # to transfer from\n- vgg16\n\n# the machine\n",
        "backbones:  # to transfer from\n\n- vgg16\n- resnet18\n",
        "backbones:  # to transfer from\n  - vgg16  # the largest\n  - resnet18\n",
        "# to transfer from\nbackbones:\n- vgg16  # the last\n\n# the machine\n",
    ],
)
def test_lists_may_be_in_block_style(tmp_path, block, items):
    """A list with one item a line, as DVC writes it with `-S`, is replaced wherever comments stand: nothing else changes, and
    comments above and beside it stay."""
    file, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    start, end = text.index("backbones:"), text.index("compute:")
    datasets = text.index("  datasets: [digits]")
    in_blocks = text[:start] + block + text[end:datasets] + text[datasets:].replace("datasets: [digits]", "datasets:", 1)
    comment = in_blocks.index("\n", in_blocks.index("  datasets:"))
    file.write_text(in_blocks[: comment + 1] + "  - digits\n" + in_blocks[comment + 1 :], encoding="utf-8")
    before = params.read_yaml(file)
    recipes.apply(file, {"backbones": items, "fetch.datasets": [], "ingest.source": "photos"}, lambda settings: None)
    before["backbones"], before["fetch"]["datasets"], before["ingest"]["source"] = items, [], "photos"
    assert params.read_yaml(file) == before
    after = file.read_text(encoding="utf-8")
    for words in ("# to transfer from", "# the machine", "# named data sets"):
        assert (words in after) == (words in in_blocks), words

"""What changed between two runs of a pipeline, in words."""

from __future__ import annotations

import pytest

from darkroom.config.dvc_graph import parse_lock
from darkroom.tracking import changes

BEFORE = """
stages:
  ingest:
    deps: [{path: photos, md5: a}, {path: src/darkroom/data/ingest.py, md5: a}]
    params: {params.yaml: {ingest: {seed: 0, background: [0, 0, 0]}}}
    outs: [{path: data/ingested, md5: a}]
  transfer:
    deps: [{path: data/ingested/train, md5: a}]
    params: {params.yaml: {transfer: {lr: 0.003, epochs: 30, head: pooled}, compute.seed: 0}, code.yaml: {stages.transfer: abc}}
    outs: [{path: models/transfer, md5: a}]
"""
EVALUATE = "  evaluate: {deps: [{path: models/transfer, md5: a}], outs: [{path: reports, md5: a}]}\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "", changes.FORCED),
        ("lr: 0.003", "lr: 0.01", "transfer.lr 0.003 → 0.01"),
        ("[0, 0, 0]", "[1, 0, 0]", "ingest.background [0, 0, 0] → [1, 0, 0]"),
        ("0.003, epochs: 30", "0.01, epochs: 9", "transfer.lr 0.003 → 0.01, transfer.epochs 30 → 9"),
        (
            "0.003, epochs: 30, head: pooled",
            "0.01, epochs: 9, head: x",
            "transfer.lr 0.003 → 0.01, transfer.epochs 30 → 9 and 1 more",
        ),
        ("path: photos, md5: a", "path: photos, md5: b", "data: photos"),
        ("ingest.py, md5: a", "ingest.py, md5: b", "code: ingest.py"),
        ("transfer: abc", "transfer: abd", "code: transfer"),  # in a project elsewhere than the repository
        ("train, md5: a", "train, md5: b", changes.FORCED),  # a result of ingest
        ("lr: 0.003", "rate: 0.003", changes.FORCED),  # a key of another version of Darkroom
        ("outs: [{path: models/transfer, md5: a}]\n", "outs: [{path: models/transfer, md5: a}]\n" + EVALUATE, "new: evaluate"),
    ],
)
def test_what_changed_is_named(old, new, words):
    """Changed params come first, then data, then code, then stages that have not run before; results are no changes."""
    before, after = parse_lock(BEFORE, ""), parse_lock(BEFORE.replace(old, new) if old else BEFORE, "")
    assert changes.describe(before, after, list(after)) == words


def test_a_name_is_short():
    """Long values are cut, so that a name fits the column of a table."""
    after = parse_lock(BEFORE.replace("head: pooled", f"head: {'x' * 90}"), "")
    assert len(changes.describe(parse_lock(BEFORE, ""), after, ["transfer"])) < 60


def test_without_a_lock_before_it_is_the_first_run():
    """A pipeline before which there is none is the first run; one in which no stage ran changed nothing."""
    stages = parse_lock(BEFORE, "")
    assert changes.describe({}, stages, ["ingest"]) == changes.FIRST
    assert changes.describe(stages, stages, []) == changes.NOTHING
    assert changes.describe(stages, {}, ["ingest"]) == ""

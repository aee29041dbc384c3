"""What Prefect's pages show of the outputs."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def artifacts() -> ModuleType:
    """Return the module, which imports Prefect: of all workers, the one that runs these tests alone does."""
    return importlib.import_module("pipelines.artifacts")


@pytest.mark.parametrize("registered", [True, False])
def test_the_promotion_decision_is_a_table(registered, artifacts):
    """Every check is a row, a veto stands out, and no text breaks the table."""
    checks = [
        {"name": "accuracy", "passed": True, "message": "fine"},
        {"name": "size", "passed": False, "message": "too | large\nby far"},
    ]
    version = {"name": "darkroom", "version": "3", "aliases": ["challenger"]} if registered else None
    decision = {"model": "baseline", "accuracy": 0.9, "promoted": False, "registered": version, "verdict": {"checks": checks}}
    text = artifacts.promotion_markdown(decision)
    assert text.startswith("# Not promoted\n**baseline**")
    assert ("is version 3 of darkroom (challenger)" in text) == registered
    assert "| accuracy | passed | fine |" in text
    assert "| size | **veto** | too \\| large by far |" in text


def test_the_leaderboard_is_shown(artifacts, tmp_path, monkeypatch):
    """Its numbers have four decimals at most; files that do not exist are not shown."""
    tables = {}
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda rows, key, description: tables.update({key: rows}))
    (tmp_path / "leaderboard.csv").write_text("model,accuracy,parameters\nbaseline,0.98412698,295290\nv1.5,1.0,3\n")
    artifacts.show_outputs(tmp_path, ["reports/other.csv", "leaderboard.csv", "promotion.json"])
    assert tables == {"leaderboard": [
        {"model": "baseline", "accuracy": "0.9841", "parameters": "295290"}, {"model": "v1.5", "accuracy": "1", "parameters": "3"},
    ]}  # fmt: skip


def test_progress_is_read_from_the_lines_of_a_stage(artifacts, monkeypatch):
    """The first line of an activity and its last line are shown, other lines at most every few seconds."""
    shown = []
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda percent, key, description: shown.append((key, percent)) or 1)
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda _, progress, description: shown.append(progress))
    artifact = artifacts.ProgressArtifact("train@a_b")
    for line in ("nothing: yet", "epochs: 1 of 4 epochs", "epochs: 2 of 4 epochs, 3 s left", "epochs: 4 of 4 epochs in 3 s",
                 "images: 1,000 of 2,000 images"):  # fmt: skip
        artifact.update(line)
    assert shown == [("progress-train-a-b", 25.0), 100.0, 50.0]

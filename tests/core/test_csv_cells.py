"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core import csv_cells
from darkroom.data import frozen_splits, label_fixes, label_suggestions
from darkroom.evaluation import label_issues

FORMULAS = ["=1+1.jpg", "+a.jpg", "-a b.jpg", "@a.jpg", "=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text):
    """A text that a spreadsheet would run begins with an apostrophe; numbers and other texts stay as they are."""
    assert csv_cells.escaped([text, -1.5, "-1.5", "+2", "a=b", "", None]) == [f"'{text}", -1.5, "-1.5", "+2", "a=b", "", None]


@given(st.text(alphabet="'=+-@ab\t1"))
def test_what_is_escaped_comes_back(text):
    """A cell that was escaped is read as it was, and so is one that was written without, unless it has an apostrophe of its own."""
    (cell,) = csv_cells.escaped([text])
    assert csv_cells.unescaped(cell) == text or cell == text
    if not text.startswith("'"):
        assert csv_cells.unescaped(text) == text


def test_the_environment_keeps_them_raw(monkeypatch):
    """DARKROOM_CSV=raw writes all cells as they are, for programs."""
    monkeypatch.setenv("DARKROOM_CSV", "raw")
    assert csv_cells.escaped(FORMULAS) == FORMULAS


@pytest.mark.parametrize("raw", ["", "raw"])
def test_files_that_are_read_again_keep_their_names(tmp_path, monkeypatch, raw):
    """Label fixes, frozen splits and suggestions have the names that were written, escaped or by an earlier version not."""
    monkeypatch.setenv("DARKROOM_CSV", raw)
    fixes = dict.fromkeys(FORMULAS, "=class")
    label_fixes.write(tmp_path / "fixes.csv", fixes)
    assert label_fixes.read(tmp_path / "fixes.csv") == fixes
    frozen = [frozen_splits.FrozenImage(name, "test") for name in sorted(FORMULAS)]
    frozen_splits.write(tmp_path / "splits.csv", frozen)
    assert frozen_splits.read(tmp_path / "splits.csv") == frozen
    label_issues.write(tmp_path / "issues.csv", [
        label_issues.LabelIssue(name, "0", "test", "@cat", "-dog", 0.9, 0.1, 0.8) for name in FORMULAS
    ])  # fmt: skip
    read = [(item.path, item.label, item.suggested) for item in label_suggestions.read(tmp_path / "issues.csv")]
    assert read == [(name, "@cat", "-dog") for name in FORMULAS]
    for name in ("fixes.csv", "splits.csv", "issues.csv"):
        cells = [cell for row in csv.reader((tmp_path / name).read_text().splitlines()) for cell in row]
        assert any(cell.startswith(("=", "+", "@")) for cell in cells) == (raw == "raw")

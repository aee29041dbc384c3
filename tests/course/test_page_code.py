"""The Python of a lesson runs from top to bottom, and what it computes is what the page says."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from darkroom.course import lessons
from darkroom.course.lessons import Kind
from tests.conftest import ROOT


def run_code(name: str) -> dict[str, Any]:
    """Run the blocks of Python of a page, one after the other as the cells of its notebook; return what they define."""
    names: dict[str, Any] = {}
    for part in lessons.read(name).parts:
        if part.kind is Kind.PYTHON:
            exec(compile(ast.parse("\n".join(part.text.splitlines()[1:-1])), f"{name}.md", "exec"), names)
    return names


@pytest.mark.slow
def test_the_blocks_of_the_page_on_depth_are_those_of_the_study(monkeypatch):
    """With equal weights they have the outputs of the study's block, without weights one of them is the identity; its gradient
    grows less with depth, and ten of them learn more."""
    monkeypatch.chdir(ROOT)
    names = run_code("depth")
    assert names["same"] == [True, True, True]
    assert names["outputs"] == {"Plain": "zero", "Residual": "the input"}
    plain, residual = (names["growth"](names[block], 20, 0) for block in ("Plain", "Residual"))
    assert 30 < residual < 100 < 1_000 < plain
    assert min(names["trained"]["Residual"]) > max(names["trained"]["Plain"])

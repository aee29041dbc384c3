"""Where DVC cannot save what a stage has written, the message says what it needed and what is free."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from darkroom.config import dvc_graph, dvc_space
from tests.conftest import ROOT

GRAPH = """
stages:
  first:
    cmd: x
    outs: [data/first]
  second:
    matrix: {backbone: '${backbones}', size: [1, 2]}
    cmd: x
    outs: ['models/${item.backbone}-${item.size}', {'models/cost/${item.backbone}.json': {cache: false}}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "params.yaml").write_text("backbones: [a, b]\n")
    (tmp_path / "data/first").mkdir(parents=True)
    (tmp_path / "data/first/x.npy").write_bytes(bytes(9_000_000))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/b-2").write_bytes(bytes(3_000_000))
    for path in (tmp_path / "data/first", tmp_path / "data/first/x.npy"):
        os.utime(path, (time.time() - 5,) * 2)
    return tmp_path


def test_outputs_of_a_matrix_have_their_names(project):
    """Each item of a matrix has its stage, as DVC names it, with its own paths."""
    outputs = {name: list(map(str, paths)) for name, paths in dvc_space.outputs().items()}
    assert outputs["first"] == ["data/first"]
    assert outputs["second@b-2"] == ["models/b-2", "models/cost/b.json"]
    assert len(outputs) == 5


def test_the_outputs_of_the_repository_are_those_of_its_lock(monkeypatch):
    """The names of stages are those that `dvc_graph` has."""
    monkeypatch.chdir(ROOT)
    assert list(dvc_space.outputs()) == dvc_graph.stage_names()


@pytest.mark.parametrize(
    ("free", "since", "is_full"), [(2e6, 60, True), (4e6, 60, False), (2e6, -60, False)], ids=["full", "room", "nothing written"]
)
def test_the_last_stage_that_wrote_must_fit_into_the_cache(project, monkeypatch, free, since, is_full):
    """Its outputs are what DVC had to save: a failure with more space than that, or before any stage wrote, is another one."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    error = dvc_space.full_disk(time.time() - since)
    assert bool(error) == is_full
    if error:
        assert error.code == 75
        assert "needs 3.0 MB, and 2.0 MB are free" in error.problem

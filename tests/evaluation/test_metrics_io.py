"""metrics.json, details.json and diagnostics.json: read as they were written, or refused with the remedy."""

from __future__ import annotations

import json

import pytest

from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import metrics_io
from darkroom.evaluation.diagnostics_file import Diagnostics
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Details, Metrics
from tests.evaluation.example_report import evaluation


@pytest.fixture(scope="module")
def contents():
    """Return the contents of the three files of one evaluation, by file name."""
    example = evaluation()
    return {"metrics.json": example.metrics, "details.json": example.details, "diagnostics.json": example.diagnostics}


def test_contents_are_read_as_they_were_written(contents, tmp_path):
    """Reading gives equal contents, and writing them again gives the same bytes, with the schema."""
    for name, content in contents.items():
        metrics_io.write(tmp_path / name, content)
        original = (tmp_path / name).read_bytes()
        read = metrics_io.read(tmp_path / name, type(content))
        assert read == content
        metrics_io.write(tmp_path / name, read)
        assert (tmp_path / name).read_bytes() == original
        assert json.loads(original)["schema"] == content.SCHEMA
    assert "top_3_accuracy" in json.loads((tmp_path / "metrics.json").read_text())["models"]["baseline"]


def test_names_of_earlier_versions_become_todays(contents, tmp_path):
    """The pixel baseline was called `reference`, among the models and in pairs of them."""
    for name in ("metrics.json", "details.json"):
        metrics_io.write(tmp_path / name, contents[name])
        text = (tmp_path / name).read_text().replace(f'"{PIXEL_BASELINE}"', '"reference"')
        assert '"reference"' in text
        (tmp_path / name).write_text(text)
    metrics, details = metrics_io.read_both(tmp_path / "metrics.json", tmp_path / "details.json")
    assert (metrics, details) == (contents["metrics.json"], contents["details.json"])


@pytest.mark.parametrize(
    ("kind", "content", "fact"),
    [
        (Metrics, None, "nothing has been evaluated"),
        (Metrics, "{", "damaged"),
        (Metrics, "[]", "schema None"),
        (Metrics, '{"schema": 1}', "schema 1"),
        (Metrics, '{"schema": 2, "models": {}}', "best"),
        (Metrics, '{"schema": 2, "best": "x", "confidence": 0.9, "resamples": 1, "images": 1, "groups": 1, "models": {}}', "x"),
        (Details, '{"schema": 2, "classes": [], "models": {"a": {}}, "pairs": []}', "models.a.per_class"),
        (Details, '{"schema": 2, "classes": [], "models": 3, "pairs": 4}', "models"),
        (Diagnostics, '{"schema": 1}', "schema 1"),
    ],
)
def test_other_contents_are_refused(tmp_path, kind, content, fact):
    """The message names the file, the fact, and the command that writes the file anew."""
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WorkspaceError) as raised:
        metrics_io.read(path, kind)
    assert str(path) in raised.value.problem
    assert fact in raised.value.problem
    assert f"dvc repro {kind.STAGE}" in raised.value.remedy


def test_files_of_two_evaluations_are_refused(contents, tmp_path):
    """metrics.json and details.json must have the same models."""
    metrics_io.write(tmp_path / "metrics.json", contents["metrics.json"])
    metrics_io.write(tmp_path / "details.json", contents["details.json"].model_copy(update={"models": {}}))
    with pytest.raises(WorkspaceError, match="two evaluations"):
        metrics_io.read_both(tmp_path / "metrics.json", tmp_path / "details.json")

"""Every study, at a tiny size: the files that it writes, and that it repeats them."""

from __future__ import annotations

import copy
import csv
import json
import re
import shutil

import pytest

from darkroom.config import study_params
from darkroom.core.errors import WeightsError
from darkroom.studies import registry, trainer
from darkroom.tracking import records
from tests.browser import faults, opened
from tests.studies.conftest import run_study, studies_params

WRITTEN = {"results.csv", "curves.csv", "layers.csv", "summary.json", "index.html"}
FURTHER = {"tune": {"trials.csv"}}


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_study_writes_its_results(name, results_of):
    """There are a row per run, a summary per label, pictures, and costs in a folder of their own."""
    folder = results_of(name)
    assert {path.name for path in folder.iterdir()} == WRITTEN | FURTHER.get(name, set()) | {f"{name}.png"}
    rows = list(csv.DictReader((folder / "results.csv").open()))
    summary = json.loads((folder / "summary.json").read_text())
    assert len(rows) == sum(row["seeds"] for row in summary["rows"])
    assert {"0", "1", "2"} <= {row["seed"] for row in rows}
    assert all(0 <= row["accuracy"] <= 1 and row["multiply_adds"] > 0 for row in summary["rows"])
    assert (folder / f"{name}.png").stat().st_size < 200_000
    assert "seconds" not in rows[0]
    cost = folder.parent / "cost" / name
    assert len((cost / "cost.csv").read_text().splitlines()) == len(rows) + 1
    assert (cost / "latency.png").stat().st_size < 100_000


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_page_needs_nothing_else(name, results_of):
    """The page of a study has its picture inside, and no attribute or style names another address."""
    page = (results_of(name) / "index.html").read_text()
    addresses = re.findall(r"""\b(?:src|href|action|poster)\s*=\s*["']?([^"'\s>]{0,40})""", page)
    assert any(address.startswith("data:image/png") for address in addresses)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\(\s*[\"']?(?!data:)", page)


@pytest.mark.parametrize("size", study_params.SIZES)
@pytest.mark.parametrize("name", registry.NAMES)
def test_runs_differ_in_one_thing(name, size):
    """Runs of one comparison and seed differ in nothing but what the study varies."""
    study = registry.load(name)(getattr(getattr(studies_params(), name), size))
    runs = study.runs(100)
    assert len({run.seed for run in runs}) >= 3
    assert len(set(map(repr, runs))) == len(runs)
    first = {}
    for run in runs:
        reference = first.setdefault((run.comparison, run.seed), run)
        different = {key for key in vars(run) if getattr(run, key) != getattr(reference, key)}
        assert different <= {"label", *study.varies}, different


def test_a_second_run_trains_nothing_and_writes_the_same(workspace, monkeypatch):
    """Outputs depend on settings and images only: from the cache, or trained again, they are the same bytes."""
    folder = run_study("initialization")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(".darkroom/studies")
    run_study("initialization")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    monkeypatch.setattr(trainer, "train", None)
    run_study("initialization")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_each_run_is_recorded_once(workspace, monkeypatch, own_mlflow):
    """A run has a record with its params, its curve and its duration; a cached result has none."""
    folder = workspace / "records"
    monkeypatch.setattr(records, "RECORDS", folder)
    for _ in range(2):
        run_study("initialization", "networks=[mlp]")
    runs = [[json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*/record.jsonl")]
    assert len(runs) == 9
    start = runs[0][0]
    assert start["stage"] == "study@initialization"
    assert {"study", "study.label", "study.seed", "study.scheme", "study.lr"} <= set(start["params"])
    assert {record[0]["params"]["study.label"] for record in runs} == {"kaiming", "zeros", "lsuv"}
    metrics = {key for line in runs[0] if line["kind"] == "metrics" for key in line["values"]}
    assert {"val_accuracy", "train_loss", "parameters", "multiply_adds", "duration_seconds"} <= metrics


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_is_accessible(dark, results_of):
    """In a browser a page logs nothing, requests nothing, and has no serious violation by axe-core."""
    with opened((results_of("separable") / "index.html").resolve(), dark) as page:
        assert faults(page) == []


def test_an_error_of_a_process_keeps_its_facts():
    """An error that comes from another process has its problem, its remedy and its exit code."""
    error = copy.copy(WeightsError("a", "b", True))  # made as one from another process is
    assert (type(error), error.problem, error.remedy, error.code) == (WeightsError, "a", "b", 75)

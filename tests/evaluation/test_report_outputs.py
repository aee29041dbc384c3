"""What evaluate shows, made from the files that it has written."""

from __future__ import annotations

import csv
import json
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.config.params import parse, read_yaml
from darkroom.evaluation.report import outputs
from darkroom.models import checkpoint
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.compact import Compact, Spec
from tests.conftest import ROOT
from tests.evaluation.example_report import findings

SHOWN = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def made(tmp_path):
    """Return findings of three classes, with the files that evaluate has written of them and read for them."""
    found = findings()
    ingested, reports = tmp_path / "ingested", tmp_path / "reports"
    (ingested / "test").mkdir(parents=True)
    reports.mkdir()
    np.save(ingested / "test" / "images.npy", found.pixels)
    np.save(ingested / "test" / "labels.npy", found.labels)
    rows = [{**image, "split": "test", "status": "accepted", "label": image["path"][:3]} for image in found.images]
    rows.append({"path": "broken.png", "sha256": "0", "split": "", "status": "quarantined", "label": "cat"})
    pq.write_table(pa.Table.from_pylist(rows), ingested / "manifest.parquet")
    for name in ("metrics", "details", "beyond"):
        (reports / f"{name}.json").write_text(json.dumps(getattr(found, name)))
    with (reports / "label_issues.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found.issues[0]))
        writer.writeheader()
        writer.writerows(found.issues)
    network = Network(Compact(Spec(16, 4), 0), SHOWN, 3, 0)
    (tmp_path / "baseline").mkdir()
    described = Checkpoint("baseline", Spec(16, 4).as_dict(), SHOWN, tuple(found.details["classes"]), {}, {})
    checkpoint.save(tmp_path / "baseline", described, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    return found, tmp_path


def test_the_report_is_made_of_files_and_is_the_same_twice(made, values):
    """With heat maps of mistakes and of right answers, doubtful labels with their pictures, and the version of the data."""
    found, place = made
    pages = []
    for _ in range(2):
        outputs.report(
            parse(values), place / "ingested", place, place / "reports", list(found.rows), dict(found.histories), found.answers
        )
        pages.append((place / "reports/report.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    wrong = int((found.answers["baseline"].argmax(1) != found.labels).sum())
    assert pages[0].count("where the network looked for") == min(wrong, outputs.MISTAKES) + outputs.RIGHT
    assert "LayerCAM (Jiang et al. 2021)" in pages[0]
    assert "1 file quarantined" in pages[0]
    assert "manifest.parquet md5" in pages[0]


def test_the_command_that_repeats_it_is_one(made, values, tmp_path, monkeypatch):
    """A clean tree is repeated by its commit; of changes that are not committed the page says so, and names no checkout."""
    found, place = made
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("a: 1")
    for words in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "run"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout[:12]

    def page() -> str:
        outputs.report(
            parse(values), place / "ingested", place, place / "reports", list(found.rows), dict(found.histories), found.answers
        )
        return (place / "reports/report.html").read_text(encoding="utf-8")

    assert f"<code>git checkout {head} &amp;&amp; dvc repro</code>" in page()
    (tmp_path / "params.yaml").write_text("a: 2")
    dirty = page()
    assert f"<code>{head}</code>" in dirty
    assert "commit the changes first" in dirty
    assert "git checkout" not in dirty


def test_plots_are_those_of_the_graph(made):
    """Every plot that dvc.yaml declares is there with the columns that it draws, also where there are no worse images."""
    found, place = made
    said = found.answers["baseline"].argmax(1)
    for beyond in (found.beyond, {}):
        (place / "reports/beyond.json").write_text(json.dumps(beyond))
        outputs.plots(place / "reports", dict(found.histories), said, found.labels)
        for plot in read_yaml(ROOT / "dvc.yaml")["stages"]["evaluate"]["plots"]:
            ((path, drawn),) = plot.items()
            files = [place / path] if path.endswith(".csv") else sorted((place / path).iterdir())
            assert files
            for file in files:
                assert {drawn["x"], drawn["y"]} <= set(file.read_text().splitlines()[0].split(","))
    rows = outputs.lines(place / "reports/plots/classes.csv")
    assert [float(row["recall"]) for row in rows] == [np.mean(said[found.labels == i] == i) for i in range(3)]

"""Comparison of two evaluations: folders, git revisions, and the sentence about the difference."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.cli import main
from darkroom.evaluation import metrics_io, report_diff
from darkroom.evaluation.predictions import Prediction
from tests.browser import faults, opened, scrolls_sideways
from tests.evaluation.example_report import evaluation

CLASSES = ("cat", "dog", "owl")


def side(name: str, wrong: int, first: int = 0, **params) -> report_diff.Side:
    """Return an evaluation of 60 images, of which the first `wrong` are classified as the next class."""
    labels = np.arange(60) % 3
    predicted = np.where(np.arange(60) < wrong, (labels + 1) % 3, labels)
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), predicted] = 0.9
    example = evaluation(CLASSES, labels, probabilities={"baseline": probabilities})
    predictions = [
        Prediction(f"{i}.png", f"h{i + first}", CLASSES[label], CLASSES[predicted[i]], 0.9) for i, label in enumerate(labels)
    ]
    return report_diff.Side(name, example.metrics, example.details, predictions, params)


def test_images_that_one_model_alone_classifies_correctly_are_counted():
    """Of the same 60 images the second model has 11 wrong that the first has correct, and one the other way
    round."""
    a, b = side("A", 1), side("B", 12)
    b.predictions[0] = dataclasses.replace(b.predictions[0], predicted=b.predictions[0].label)
    both = report_diff.paired(a, b)
    assert (both.images, len(both.lost), len(both.won), len(both.other)) == (60, 11, 1, 0)
    assert both.difference == pytest.approx(-10 / 60)
    assert both.p == pytest.approx(2 * (1 + 12) / 2**12)
    headline, test = report_diff.headline(a, b, both)
    assert headline == "B is 16.7 points worse than A"
    assert "only B is correct on 1, only A on 11" in test


def test_other_images_are_not_paired():
    """Evaluations of different images are compared as independent ones, and the page says so."""
    a, b = side("A", 3), side("B", 5, first=1000)
    assert report_diff.paired(a, b) is None
    headline, test = report_diff.headline(a, b, None)
    assert headline == "B is 3.3 points worse than A, which may be chance"
    assert "Fisher" in test
    assert "Unknown" in report_diff.page(a, b)


@pytest.mark.slow
def test_the_page_can_be_read_by_everyone(tmp_path):
    """Nothing is loaded, no error is logged, axe-core finds no serious fault, a phone does not scroll
    sideways."""
    page = report_diff.page(side("<a>", 3, transfer={"lr": 0.1}), side("b", 9, transfer={"lr": 0.2}))
    assert "transfer.lr" in page
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with opened(tmp_path / "page.html", dark=True, width=360) as browser:
        assert faults(browser) == []
        assert not scrolls_sideways(browser)
        assert "<a>" in browser.inner_text("h1")


def write(folder: Path, evaluated: report_diff.Side) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    metrics_io.write(folder / "metrics.json", evaluated.metrics)
    metrics_io.write(folder / "details.json", evaluated.details)
    rows = [{"model": "baseline", "split": "test", **vars(row)} for row in evaluated.predictions]
    pq.write_table(pa.Table.from_pylist(rows), folder / "predictions.parquet")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a git project with two commits, each with an evaluation in dvc.lock and in DVC's cache."""
    monkeypatch.chdir(tmp_path)
    for number, wrong in enumerate((3, 12)):
        write(tmp_path / "reports", side("", wrong))
        outs = []
        for file in sorted((tmp_path / "reports").iterdir()):
            digest = hashlib.md5(file.read_bytes()).hexdigest()
            place = tmp_path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
            outs.append({"path": f"reports/{file.name}", "md5": digest})
        (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"evaluate": {"outs": outs}}}))
        (tmp_path / "params.yaml").write_text(f"transfer:\n  lr: 0.{number}\n")
        for words in (["init", "-q"], ["add", "dvc.lock", "params.yaml"], ["commit", "-qm", "run"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)
    return tmp_path


def test_revisions_are_read_from_the_lock_and_the_cache(project, capsys):
    """`--compare HEAD~1 HEAD` needs no checkout; a folder is as good as a revision."""
    assert main(["report", "--compare", "HEAD~1", "HEAD"]) == 0
    text = capsys.readouterr().out
    assert "HEAD is 15.0 points worse than HEAD~1" in text
    text = (project / "reports/side-by-side.html").read_text()
    assert "transfer.lr" in text
    assert main(["report", "--compare", "HEAD~1", "reports", "--out", "page.html"]) == 0
    assert "reports is 15.0 points worse than HEAD~1" in capsys.readouterr().out


def test_a_report_of_another_evaluation_is_named_so(project, capsys):
    """The page is that of these figures if `diagnose` has read them, as dvc.lock says; else the command that writes it is named."""
    assert main(["report"]) == 0
    assert "dvc repro diagnose" in capsys.readouterr().out, "there is no page yet"
    Path("reports/report.html").touch()
    lock = json.loads(Path("dvc.lock").read_text())
    (metrics,) = [out for out in lock["stages"]["evaluate"]["outs"] if out["path"] == "reports/metrics.json"]
    for read, is_named in ((metrics["md5"], False), ("0" * 32, True)):
        lock["stages"]["diagnose"] = {"deps": [metrics | {"md5": read}]}
        Path("dvc.lock").write_text(json.dumps(lock))
        assert main(["report"]) == 0
        assert ("dvc repro diagnose" in capsys.readouterr().out) == is_named


def test_without_predictions_the_figures_are_compared(project, capsys):
    """A folder that holds the two JSON files alone can be compared."""
    (project / "reports/predictions.parquet").unlink()
    assert main(["report", "--compare", "HEAD~1", "."]) == 0
    assert "rough" in capsys.readouterr().out


def test_other_classes_are_another_question(project, capsys):
    """Evaluations of different classes are not compared: the message names those that only one has."""
    details = Path("reports/details.json")
    details.write_text(details.read_text().replace(CLASSES[0], "alpaca"))
    output = refused(capsys, "--compare", "HEAD~1", "reports")
    assert f"HEAD~1 has {CLASSES[0]}" in output
    assert "reports has alpaca" in output
    assert not Path("reports/side-by-side.html").exists()


def test_mistakes_have_a_remedy(project, capsys):
    """What is neither folder nor revision, an empty folder, an older schema, and a cache without the file:
    exit code 2."""
    (project / "empty").mkdir()
    (project / "old").mkdir()
    (project / "old/metrics.json").write_text('{"models": {}}')
    for words, expected in (
        (["nowhere", "HEAD"], "neither a folder nor a revision"),
        (["empty", "HEAD"], "holds no metrics.json"),
        (["old", "HEAD"], "schema None"),
    ):
        assert main(["report", "--compare", *words]) == 2
        text = capsys.readouterr().err
        assert expected in text
        assert "remedy" in text
    shutil.rmtree(project / ".dvc")
    assert main(["report", "--compare", "HEAD~1", "HEAD"]) == 2
    assert "dvc fetch" in capsys.readouterr().err
    (project / "dvc.lock").write_text("stages: {}")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "none"], check=True)
    assert main(["report", "--compare", "HEAD", "HEAD~1"]) == 2
    assert "has no metrics.json" in capsys.readouterr().err


def refused(capsys, *words) -> str:
    """Return the message with which the command ends: one, with a remedy."""
    assert main(["report", *words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("error:") == output.err.count("remedy:") == 1
    return output.err


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("params.yaml", "", "holds no params"),
        ("params.yaml", "- 1", "holds no params"),
        ("params.yaml", "a: [", "not valid YAML"),
        ("reports/predictions.parquet", "junk", "damaged"),
        ("reports/metrics.json", '{"schema": 2}', "metrics.json is damaged"),
        ("reports/details.json", '{"schema": 2}', "damaged"),
        ("reports/details.json", '{"schema": 2, "classes": [], "models": {}, "pairs": []}', "two evaluations"),
    ],
)
def test_damaged_files_have_a_remedy(project, capsys, file, content, expected):
    """Whatever a file of a folder holds instead of what belongs there, the command says so in one message."""
    (project / file).write_text(content)
    assert expected in refused(capsys, "--compare", ".", "HEAD")
    if file.endswith(".json"):
        refused(capsys)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("params.yaml", "", "holds no params"),
        ("params.yaml", "a: [", "not valid YAML"),
        ("dvc.lock", "stages: []", "metrics.json"),
        ("dvc.lock", "text", "no stages"),
        ("dvc.lock", "- 1", "no stages"),
        ("dvc.lock", "stages: {evaluate: {outs: [1]}}", "no stages"),
    ],
)
def test_damaged_revisions_have_a_remedy(project, capsys, file, content, expected):
    """The same holds for what a commit has in these files, and for a word that is too long for a name."""
    (project / file).write_text(content)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "broken"], check=True)
    assert expected in refused(capsys, "--compare", "HEAD", "HEAD~1")
    assert "neither a folder nor a revision" in refused(capsys, "--compare", "x" * 300, "HEAD~1")


def test_only_an_earlier_page_is_replaced(project, capsys):
    """`--out` writes over a page of its own, over nothing else, and means nothing without --compare."""
    for _ in range(2):
        assert main(["report", "--compare", "HEAD~1", "HEAD", "--out", "page.html"]) == 0
    capsys.readouterr()
    before = (project / "reports/metrics.json").read_bytes()
    for place in ("reports/metrics.json", "reports", "params.yaml"):
        assert "not an earlier page" in refused(capsys, "--compare", "HEAD~1", "HEAD", "--out", place)
    assert (project / "reports/metrics.json").read_bytes() == before
    assert "--compare" in refused(capsys, "--out", "page.html")


def test_the_command_alone_says_the_verdict(project, capsys):
    """`darkroom report` prints what the page begins with, and where it is."""
    assert main(["report"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("baseline classifies 80.0% of 60 test images")
    assert "reports/report.html" in text

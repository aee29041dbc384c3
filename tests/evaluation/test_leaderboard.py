"""leaderboard.csv and cost.csv."""

from __future__ import annotations

import csv

import pytest

from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import leaderboard
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import CrossValidated, CrossValidation, Metrics

COSTS = {"ms_per_image": 0.123456, "train_seconds": 3.0, "ms_p50": 1.23456789, "ms_p95": 2.0, "images_per_second": 3.0}
ROWS = [
    Row(model="baseline", kind="model", accuracy=0.5, macro_f1=0.4, aurc=0.25, parameters=1000, **COSTS),
    Row(model="finetune/x", kind="model", accuracy=0.9, macro_f1=0.8, parameters=2000, **COSTS),
]


def test_the_leaderboard_is_ranked_and_read_back(tmp_path, capsys):
    """The file has the documented columns, the highest test accuracy first; the table marks the selected
    model."""
    leaderboard.write(tmp_path / "leaderboard.csv", ROWS)
    text = (tmp_path / "leaderboard.csv").read_text().splitlines()
    assert text[0] == "model,kind,accuracy,macro_f1,aurc,parameters,ms_per_image,train_seconds,busy"
    rows = leaderboard.read(tmp_path / "leaderboard.csv")
    assert [(row.model, row.accuracy, row.parameters, row.ms_per_image) for row in rows] == [
        ("finetune/x", 0.9, 2000, 0.1235), ("baseline", 0.5, 1000, 0.1235),
    ]  # fmt: skip
    assert [row.aurc for row in rows] == [None, 0.25]
    crossed = CrossValidated(figures={"accuracy": 0.625}, intervals={}, accuracy_by_fold=[])
    for cross_validation in (None, CrossValidation(folds=2, images=8, groups=8, models={"baseline": crossed})):
        leaderboard.show(rows, Metrics.model_construct(best="baseline", cross_validation=cross_validation))
        shown = capsys.readouterr().out
        assert [line.split()[:2] for line in shown.splitlines()[2:]] == [["finetune/x", "0.9000"], ["→", "baseline"]]
        assert ("0.6250" in shown.splitlines()[-1]) == bool(cross_validation)


def test_costs_are_a_table_of_their_own(tmp_path):
    """cost.csv has the documented columns, rounded to four digits."""
    leaderboard.write(tmp_path / "cost.csv", ROWS, leaderboard.COSTS)
    with (tmp_path / "cost.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == leaderboard.COSTS
    assert rows[0]["ms_p50"] == "1.2346"


def test_rows_with_all_costs_are_of_one_evaluation(tmp_path):
    """The rows of both tables are joined by the model; tables of two evaluations are refused with the remedy."""
    leaderboard.write(tmp_path / "leaderboard.csv", ROWS)
    leaderboard.write(tmp_path / "cost.csv", ROWS, leaderboard.COSTS)
    rows = leaderboard.read_with_costs(tmp_path)
    assert [(row.model, row.accuracy, row.ms_p50) for row in rows] == [("finetune/x", 0.9, 1.2346), ("baseline", 0.5, 1.2346)]
    leaderboard.write(tmp_path / "cost.csv", ROWS[:1], leaderboard.COSTS)
    with pytest.raises(WorkspaceError, match=r"cost\.csv"):
        leaderboard.read_with_costs(tmp_path)


def test_files_of_earlier_versions_are_read(tmp_path):
    """The pixel baseline was called `reference`, by its name and by its kind; `busy` and `aurc` were not there."""
    header = ",".join(name for name in leaderboard.COLUMNS if name not in ("aurc", "busy"))
    (tmp_path / "old.csv").write_text(f"{header}\nreference,reference,0.96875,0.96,30730,0.0167,5.29\n")
    (row,) = leaderboard.read(tmp_path / "old.csv")
    assert (row.model, row.kind) == ("pixel_baseline", "pixel_baseline")


@pytest.mark.parametrize("content", [None, "model,accuracy\nbaseline,0.9\n", ",".join(leaderboard.COLUMNS) + "\na,b,c,d,e,f,g,h\n"])
def test_a_missing_or_damaged_file_has_a_remedy(tmp_path, content):
    """The message names the file and the command that writes it."""
    path = tmp_path / "leaderboard.csv"
    if content:
        path.write_text(content)
    with pytest.raises(WorkspaceError, match=r"leaderboard\.csv.*\n.*dvc repro evaluate"):
        leaderboard.read(path)

"""The questions of the pages, answered by hand-made results of the student's own runs, at no cost of training."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.commands.lab import autoencoder, classifiers, layers, symmetry
from darkroom.config import params, recipes, study_params
from darkroom.config.yaml_files import read_yaml
from darkroom.course import lessons, readings
from darkroom.course.measurements import LAB, LEADERBOARD, SUMMARY, Measurement
from darkroom.course.own_runs import Workspace
from darkroom.studies import registry, summary
from darkroom.studies.run_config import CurvePoint, LayerStats, RunConfig, RunResult
from darkroom.studies.samples import Sample
from darkroom.studies.search import RANDOM, TPE, Trial
from darkroom.studies.tune import TuneStudy
from tests.conftest import ROOT

COLUMNS = {  # of the tables of the lab; that of frozen-vgg is written by a cell of its page
    "symmetry": symmetry.TABLE, "receptive-field": layers.FIELDS, "filters": layers.CORRELATIONS,
    "occlusion": classifiers.OCCLUDED, "autoencoder": autoencoder.HEADER,
    "frozen-vgg": ("images", "features", "pixels", "difference"),
}  # fmt: skip
MODELS = {"baseline", "pixel_baseline"}


@pytest.fixture(scope="module")
def course() -> list[lessons.Lesson]:
    """Return the lessons of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return lessons.read_all()


def named(course: Iterable[lessons.Lesson], source: str) -> list[Measurement]:
    """Return the measurements of a source that the pages name."""
    return [item for lesson in course for question in lesson.questions for item in question.measurements if item.source == source]


def finished(config: RunConfig, number: int) -> RunResult:
    """Return a result of a run, each with another accuracy."""
    accuracy = 0.5 + 0.001 * number
    stats = [LayerStats(0, name, 1.0, gradient, None, None) for name, gradient in (("first", 6.0), ("last", 2.0))]
    chances = np.eye(2)[[0, 1]].tolist()
    return RunResult(
        config, [CurvePoint(config.steps, 1.0, accuracy, 2 - accuracy, accuracy)], stats, 100 + number, 1000 + number, 1.0,
        latency=0.5, lr=0.1, probabilities=dict.fromkeys(config.tta_modes, chances),
    )  # fmt: skip


def values_of(course: Iterable[lessons.Lesson], folder: str) -> list[str]:
    """Return the values KEY=VALUE of the command whose results are in a folder that the page names."""
    commands = [command.words for lesson in course for command in lesson.commands if f"studies/results/{folder}" in command.words]
    return [word for words in commands[:1] for word in words if "=" in word]


def write_study(name: str, folder: Path, values: Iterable[str] = ()) -> None:
    """Write the results of a study at its quick size, with the labels that it would have, for runs that nobody trained."""
    content = read_yaml(ROOT / "studies/params.yaml")
    content[name]["quick"] |= dict(map(params.parse_assignment, values))
    settings = getattr(study_params.parse(content), name).quick
    study = registry.load(name)(settings)
    if isinstance(study, TuneStudy):
        values = study.defaults
        study.trials = [
            Trial(sampler, seed, number, values | {"lr": 0.001 * 2**number}, finished(RunConfig("", "", seed, "mlp"), number))
            for sampler in (RANDOM, TPE) for seed in settings.run_seeds for number in range(3)
        ]  # fmt: skip
    results = [finished(config, number) for number, config in enumerate(study.runs(settings.images or 60_000))]
    pixels, labels = np.zeros((2, 1, 8, 8), np.uint8), np.arange(2)
    results = study.compared(results, Sample(pixels, labels, pixels, labels, 2, ""))
    rows = summary.summarize(results)
    content = {"size": "quick", "rows": [row.as_dict() for row in rows], "figures": study.figures(rows, results)}
    tables = summary.tables(results)
    for path, text in (
        (folder / "summary.json", json.dumps(content)), (folder / "results.csv", tables["results.csv"]),
        (folder.parent / "cost" / folder.name / "cost.csv", tables["cost.csv"]),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_each_study_answers_a_question_of_its_lesson(course):
    """A lesson whose command is a study has a question that the student's own run of it answers, and most have several."""
    for lesson in course:
        kind, study = lesson.command.target
        own = [q for q in lesson.questions if any((m.source, m.name) == (SUMMARY, study) for m in q.measurements)]
        assert kind != "study" or len(own) >= 2, lesson.name
    assert {lesson.command.target[1] for lesson in course if lesson.command.target[0] == "study"} == set(registry.NAMES)


def test_the_index_says_how_many_questions_a_run_answers(course):
    """The index of the course counts the questions, and those that a run answers, as they are."""
    questions = [question for lesson in course for question in lesson.questions]
    answered = sum(bool(question.measurements) for question in questions)
    text = " ".join((ROOT / lessons.PAGES / "README.md").read_text(encoding="utf-8").split())
    assert f"{answered} of the {len(questions)} questions" in text
    assert f"The other {len(questions) - answered} ask" in text


def test_a_lesson_names_results_of_its_own_commands(course):
    """What answers a question is left by a command of the same page, so that it can be answered."""
    for lesson in course:
        words = [word for command in lesson.commands for word in command.words]
        text = "".join(part.text for part in lesson.parts)
        for item in (item for question in lesson.questions for item in question.measurements):
            if item.source == LEADERBOARD:
                assert "repro" in words, item
                assert item.name in words or item.name == "digits", item
            else:
                file = f"reports/lab/{item.name}.csv"
                assert item.name in words or f"studies/results/{item.name}" in words or file in text, f"{lesson.name}: {item}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("tune", "scaling") else ()) for name in registry.NAMES]
)
def test_the_numbers_of_studies_are_found(name, course, tmp_path):
    """Each comment of a page that names a study finds its number in results that have the labels of the quick size."""
    workspace = Workspace(tmp_path / "results", tmp_path / "lab")
    wanted = [item for item in named(course, SUMMARY) if item.name.partition("-")[0] == name]
    assert wanted
    for folder in {item.name for item in wanted}:
        write_study(name, workspace.results / folder, values_of(course, folder))
    for item in wanted:
        reading = readings.read(item, workspace)
        assert reading.value is not None, f"{item} is not in {sorted(readings._study_rows(item.name, workspace))}"
        assert item.operation != "/" or item.other != item.label


def test_the_numbers_of_tables_are_found(course, tmp_path):
    """Each comment that names a table of the lab finds its number by a column that the command writes, and by the row's names."""
    workspace = Workspace(tmp_path / "results", tmp_path / "lab")
    for item in named(course, LAB):
        columns = COLUMNS[item.name]
        keys = ["a"] if item.is_extreme else item.label.split(", ")
        write_table(workspace.pictures / f"{item.name}.csv", columns, [[*keys, *(["0.5"] * (len(columns) - len(keys)))]])
        assert readings.read(item, workspace).value == 0.5, item


def test_the_models_of_recipes_are_those_of_the_pages(course, monkeypatch):
    """Each comment that names a leaderboard names a recipe and one of the models that it makes."""
    monkeypatch.chdir(ROOT)
    for item in named(course, LEADERBOARD):
        backbones = recipes.values(item.name)["backbones"]
        models = MODELS | {f"{stage}/{name}" for stage in ("transfer", "finetune") for name in backbones}
        assert {item.label, *filter(None, [item.other])} <= models, item

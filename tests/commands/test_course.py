"""`darkroom course`: lessons, predictions before a run, answers after them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.course import predictions
from tests.completion import completions
from tests.conftest import ROOT

TABLE = "| | page | question | command |\n| --- | --- | --- | --- |\n"
PAGE = """# Deep networks

**What you should learn.** Depth [helps](x.md), with `skips`.

**Predict before you run.**
1. How accurate is it? <!-- summary: depth | 20 layers | residual | accuracy -->
2. Why?

```
darkroom study depth    # minutes
darkroom lab filters models/baseline
```

<details><summary>Answers</summary>

1. Nearly perfect.
2. The gradient flows.
</details>
"""
SUMMARY = {"size": "smoke", "rows": [{"comparison": "20 layers", "label": "residual", "accuracy": 0.966, "more": 1}]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with two lessons, one of them without questions."""
    pages = tmp_path / "docs/case-studies"
    pages.mkdir(parents=True)
    rows = "| 1 | [Kernels](kernels.md) | what? | `darkroom lab kernels a.jpg` |\n"
    rows += "| 2 | [Depth](depth.md) | how deep? | `darkroom study depth` |\n"
    (pages / "README.md").write_text(TABLE + rows)
    (pages / "kernels.md").write_text("# Kernels\n")
    (pages / "depth.md").write_text(PAGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def course(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Return what the command prints."""
    assert cli.main(["course", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def write_model(project: Path, name: str) -> None:
    folder = project / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.json").touch()


def write_summary(project: Path, content: str = json.dumps(SUMMARY)) -> None:
    path = project / "studies/results/depth/summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_the_list_says_what_was_run_and_predicted(project, capsys):
    """A line for each lesson has its question, the studies and pictures that are there, and the predictions made."""
    write_summary(project)
    (project / "reports/lab").mkdir(parents=True)
    (project / "reports/lab/filters.png").touch()
    course(capsys, "depth", "--predict", "2", "skips")
    text = course(capsys)
    assert all(fact in text for fact in ("how deep?", "study depth, size smoke, 20", "lab filters, 20", "1 of 2"))
    kernels, depth = json.loads(course(capsys, "--json"))
    assert (kernels["number"], kernels["name"], kernels["questions"], kernels["runs"]) == (1, "kernels", 0, [])
    assert (depth["predictions"], [run["command"] for run in depth["runs"]]) == (1, ["study depth", "lab filters"])


def test_a_lesson_names_the_command_to_run_next(project, capsys):
    """The first command of the page that has left no result comes next, or what it needs before."""
    assert "run next   darkroom study depth    # minutes" in course(capsys, "2")
    write_summary(project)
    assert "run next   darkroom repro    # makes models/baseline" in course(capsys, "2")
    write_model(project, "baseline")
    assert "run next   darkroom lab filters models/baseline" in course(capsys, "2")
    (project / "reports/lab").mkdir(parents=True)
    (project / "reports/lab/filters.png").touch()
    assert "run next" not in course(capsys, "2")


def test_answers_wait_for_every_prediction(project, capsys):
    """Answers and the numbers of the own run are shown once every question has a prediction, in text and as JSON."""
    write_summary(project)
    hidden = ("Nearly perfect", "The gradient flows", "0.966")
    course(capsys, "depth", "--predict", "1", "about 90%")
    for arguments in (("depth",), ("depth", "--json")):
        text = course(capsys, *arguments)
        assert not any(fact in text for fact in hidden), text
    assert course(capsys, "depth", "--predict", "2", "skips").startswith("stored")
    text = " ".join(course(capsys, "depth").split())
    assert all(fact in text for fact in (*hidden, "your 0.9000 is 6.6 points too low", "Depth helps, with skips."))
    (first, second) = json.loads(course(capsys, "depth", "--json"))["questions"]
    (own,) = first["own_runs"]
    assert (own["field"], own["value"], own["predicted"], second["own_runs"]) == ("accuracy", 0.966, 0.9, [])


def test_a_prediction_is_fixed_once_its_answer_was_shown(project, capsys):
    """Before that it can be changed; afterwards not, nor be made."""
    course(capsys, "depth", "--predict", "1", "80%")
    course(capsys, "depth", "--predict", "1", "-90%")
    assert "-90%" in course(capsys, "depth")
    assert "Nearly perfect" in course(capsys, "depth", "--answers")
    for number in ("1", "2"):
        assert "was shown on" in course(capsys, "depth", "--predict", number, "again", code=2)
    assert "prediction  -90%" in course(capsys, "depth")


def test_a_changed_question_waits_for_a_prediction_of_its_own(project, capsys):
    """A prediction belongs to the text of its question, and goes on to no other one."""
    course(capsys, "depth", "--predict", "1", "80%")
    page = project / "docs/case-studies/depth.md"
    page.write_text(PAGE.replace("How accurate", "How slow"))
    assert "80%" not in course(capsys, "depth")


def test_a_question_may_have_several_numbers(project, capsys):
    """Each is compared with the number of the prediction at its place, and the run is named once."""
    write_summary(project)
    comment = "<!-- summary: depth | 20 layers | residual | accuracy -->"
    more = "\n".join(comment.replace(*pair) for pair in (("accuracy", "accuracy / plain"), ("residual", "highest")))
    page = project / "docs/case-studies/depth.md"
    page.write_text(PAGE.replace(comment, f"{comment}\n{more}"))
    write_summary(
        project, json.dumps(SUMMARY | {"rows": [*SUMMARY["rows"], {**SUMMARY["rows"][0], "label": "plain", "accuracy": 0.5}]})
    )
    text = " ".join(course(capsys, "depth", "--answers").split())
    assert "accuracy of 20 layers, residual, divided by that of plain: 1.9 times" in text
    assert "highest accuracy of 20 layers: residual, 0.9660" in text
    assert text.count("size smoke, 20") == 2  # where it is run here, and at the first number


@pytest.mark.parametrize(
    ("rows", "fact"),
    [(None, "none yet of `darkroom study depth`"), ([], "no accuracy of 20 layers, residual in studies/results")],
)
def test_a_run_without_the_number_is_named(rows, fact, project, capsys):
    """Where the study has not run, or has no such row, the line of the own run says so."""
    if rows is not None:
        write_summary(project, json.dumps(SUMMARY | {"rows": rows}))
    assert fact in " ".join(course(capsys, "depth", "--answers").split())


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["dept"], '"depth"'),
        (["depth", "--predict", "3", "x"], "choose from 1 to 2"),
        (["kernels", "--predict", "1", "x"], "docs/case-studies/kernels.md"),
        (["depth", "--predict", "1", " "], "in quotes"),
        (["depth", "--predict", "1", "\udc80"], "in quotes"),
        (["depth", "--predict", "one", "x"], "one"),
        (["depth", "--predict", "1"], "2 arguments"),
        (["--predict", "1", "x"], "name the lesson"),
        (["--answers"], "name the lesson"),
        (["depth", "--answers", "--predict", "1", "x"], "exclude"),
    ],
)
def test_a_mistake_names_its_remedy(arguments, fact, project, capsys):
    """A mistake is one message with a remedy, and stores nothing."""
    message = course(capsys, *arguments, code=2)
    assert fact in message
    assert "remedy: " in message
    assert not predictions.FILE.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"depth": {"q": {"prediction": 3}}}', '{"depth": []}'])
def test_a_damaged_file_is_one_sentence(content, project, capsys):
    """A damaged file of predictions, or of results, is named with its remedy, and stays as it is."""
    predictions.FILE.parent.mkdir(exist_ok=True)
    predictions.FILE.write_text(content)
    assert "studies/predictions.json is damaged" in course(capsys, "depth", "--predict", "1", "x", code=2)
    assert predictions.FILE.read_text() == content
    predictions.FILE.unlink()
    write_summary(project, content)
    assert "run the study again" in course(capsys, code=2)


def test_the_course_imports_no_torch():
    """The list of all lessons imports neither torch nor what draws and tracks; the tab key completes lessons."""
    unused = {"torch", "mlflow", "pandas", "sklearn", "matplotlib", "cv2"}
    code = (
        "import sys; from darkroom.cli import main; from tests.completion import completions; "
        f"assert main(['course']) == 0; assert 'depth' in completions('course', 'd'); assert not {unused} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_without_pages_the_remedy_is_named(project, capsys):
    """Where a page is missing, the message says how to have it, and completion is silent; without any, Darkroom's are shown."""
    (project / "docs/case-studies/depth.md").unlink()
    assert "git checkout docs/case-studies" in course(capsys, code=2)
    (project / "docs/case-studies/README.md").unlink()
    assert "there is no docs/case-studies/README.md" in course(capsys, code=2)
    assert completions("course", "") == []
    shutil.rmtree(project / "docs")
    assert "Receptive fields" in course(capsys)


LOCK = """
stages:
  names: {cmd: a, params: {params.yaml: {backbones: [mobilenet_v2], fetch.datasets: []}}}
  ingest:
    cmd: a
    params: {params.yaml: {ingest: {source: alpacas, image_size: 160}}}
    outs: [{path: data/ingested/test, md5: aa}]
  baseline: {cmd: a, params: {params.yaml: {baseline: {architecture: compact}}}}
  transfer@mobilenet_v2: {cmd: a}
  evaluate: {cmd: a, deps: [{path: data/ingested/test, md5: aa}]}
"""
LEADERBOARD = "model,kind,accuracy\nbaseline,model,0.65\ntransfer/mobilenet_v2,model,0.92\n"
RECIPE = "backbones: [mobilenet_v2]\ningest: {image_size: 160}\nbaseline: {architecture: compact}\ntransfer: {epochs: 30}\n"
PIPELINE = """# Pipeline

**What you should learn.** It.

**Predict before you run.**
1. How many points? <!-- leaderboard: alpaca | transfer/mobilenet_v2 | accuracy - baseline -->

```
darkroom recipe alpaca --data ~/a
dvc repro
darkroom leaderboard
dvc repro transfer@mobilenet_v2
darkroom lab augmentations a.jpg
```
"""


@pytest.fixture
def pipeline(project: Path) -> Path:
    """Return a project whose second lesson runs the pipeline with a recipe, and whose params are those of another one."""
    index = project / "docs/case-studies/README.md"
    index.write_text(index.read_text().replace("darkroom study depth", "darkroom recipe alpaca --data ~/a"))
    (project / "docs/case-studies/depth.md").write_text(PIPELINE)
    (project / "recipes").mkdir()
    (project / "recipes/alpaca.yaml").write_text(RECIPE)
    (project / "params.yaml").write_text("backbones: [vgg11_bn]\ningest: {image_size: 32}\nbaseline: {architecture: compact}\n")
    return project


def test_a_table_of_the_lab_answers_a_question(project, capsys):
    """Its row is named by the row's first cells, and a table of other rows says so; without one the file is named."""
    page = project / "docs/case-studies/depth.md"
    page.write_text(PAGE.replace("summary: depth | 20 layers | residual | accuracy", "lab: autoencoder | linear, 32 | held_ratio"))
    assert "none yet: there is no reports/lab/autoencoder.csv" in " ".join(course(capsys, "2", "--answers").split())
    table = project / "reports/lab/autoencoder.csv"
    table.parent.mkdir(parents=True)
    facts = {32: "row linear, 32: 1.5 times (reports/lab", 8: "no error as a multiple of PCA's, row linear, 32 in reports/lab"}
    for number, fact in facts.items():
        table.write_text(f"kind,code,held_ratio\nlinear,{number},1.5\n")
        assert fact in " ".join(course(capsys, "2", "--answers").split())
    table.write_bytes(b"\xff,\n")
    assert "reports/lab/autoencoder.csv is damaged" in course(capsys, "2", "--answers", code=2)


def finish_pipeline(project: Path, lock: str = LOCK) -> None:
    (project / "dvc.lock").write_text(lock)
    (project / "reports").mkdir(exist_ok=True)
    (project / "reports/leaderboard.csv").write_text(LEADERBOARD)


def test_a_lesson_is_run_by_the_pipeline(pipeline, capsys):
    """The recipe, the whole pipeline and single stages are steps of a lesson, and the leaderboard answers its questions."""
    assert "run next   darkroom recipe alpaca" in course(capsys, "2")
    (pipeline / "params.yaml").write_text(RECIPE + "extra: {}\n")
    assert "run next   dvc repro\n" in course(capsys, "2")
    finish_pipeline(pipeline)
    assert "run next   dvc repro transfer@mobilenet_v2" in course(capsys, "2")
    write_model(pipeline, "transfer/mobilenet_v2")
    text = course(capsys, "2", "--answers")
    assert "run next   darkroom lab augmentations a.jpg" in text
    assert "run here   dvc repro, recipe alpaca, alpacas, 20" in text
    assert "run here   dvc repro transfer@mobilenet_v2, alpacas, 20" in text
    assert "accuracy of transfer/mobilenet_v2, less that of baseline: +27.0 points" in " ".join(text.split())
    assert "dvc repro, recipe alpaca" in course(capsys)


@pytest.mark.parametrize(
    "lock",
    [
        LOCK.replace("image_size: 160", "image_size: 32"),
        LOCK.replace("[mobilenet_v2]", "[vgg11_bn]"),
        LOCK.replace("deps: [{path: data/ingested/test, md5: aa}]", "deps: [{path: data/ingested/test, md5: bb}]"),
        LOCK.partition("  evaluate")[0],
    ],
)
def test_a_leaderboard_of_another_recipe_counts_for_nothing(lock, pipeline, capsys):
    """Neither another recipe, nor other images since then, nor a run that has not ended is a run of the lesson."""
    finish_pipeline(pipeline, lock)
    text = " ".join(course(capsys, "2", "--answers").split())
    assert "none yet of `dvc repro`, recipe `alpaca`" in text
    assert "recipe alpaca, alpacas" not in text


def test_a_stage_whose_backbone_is_not_in_the_params_needs_a_recipe_first(pipeline, capsys):
    """Where params.yaml is that of another recipe, the stage of the page does not exist: the recipe comes next."""
    (pipeline / "recipes/digits.yaml").write_text("backbones: [vgg11_bn]\n")
    (pipeline / "docs/case-studies/depth.md").write_text("# A\n\n```\ndarkroom check\ndvc repro transfer@vgg11_bn\n```\n")
    index = pipeline / "docs/case-studies/README.md"
    index.write_text(index.read_text().replace("darkroom recipe alpaca --data ~/a", "dvc repro transfer@vgg11_bn"))
    assert "run next   dvc repro transfer@vgg11_bn" in course(capsys, "2")
    (pipeline / "params.yaml").write_text(RECIPE)
    assert "run next   darkroom recipe digits" in course(capsys, "2")


def test_a_lesson_whose_command_leaves_nothing_is_read(project, capsys):
    """Its first command comes next until its answers were read, which the list says with the day, and the next lesson follows."""
    index = project / "docs/case-studies/README.md"
    index.write_text(index.read_text().replace("darkroom lab kernels a.jpg", "darkroom models describe alexnet"))
    page = PAGE.replace("darkroom study depth    # minutes\n", "darkroom models describe lenet5\ndarkroom study depth\n")
    (project / "docs/case-studies/kernels.md").write_text(page.replace("# Deep networks", "# Classic"))
    assert "run next   darkroom models describe lenet5" in course(capsys, "1")
    assert "`darkroom course 1` shows Classic" in course(capsys)
    course(capsys, "1", "--answers")
    text = course(capsys)
    assert "answers read, 20" in text
    assert "`darkroom course 2` shows Deep networks" in text
    assert "run next   darkroom study depth" in course(capsys, "1")
    assert json.loads(course(capsys, "1", "--json"))["read"].startswith("20")

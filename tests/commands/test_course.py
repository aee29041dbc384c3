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
    rows = "| 1 | [Kernels](kernels.md) | what? | `x` |\n| 2 | [Depth](depth.md) | how deep? | `x` |\n"
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
    """The first command of the page that has left no result comes next."""
    assert "run next   darkroom study depth    # minutes" in course(capsys, "2")
    write_summary(project)
    assert "run next   darkroom lab filters models/baseline" in course(capsys, "2")


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
    (first, _) = json.loads(course(capsys, "depth", "--json"))["questions"]
    assert (first["own_run"]["value"], first["predicted"]) == (0.966, 0.9)


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

"""`darkroom label`: the inbox by a model, what comes into the source, and Label Studio's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.data import label_fixes
from darkroom.labelling import decisions, inbox, server
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.specs import CompactSpec
from tests.labelling import label_project
from tests.labelling.label_project import CLASSES, FIXES, LOG


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    label_project.enter(tmp_path, monkeypatch)
    architecture, folder = CompactSpec(16, 4), tmp_path / "models/baseline"
    folder.mkdir(parents=True)
    preprocessing = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, len(CLASSES))
    save(folder, Checkpoint("baseline", architecture, preprocessing, CLASSES, {}, {}), network.state_dict(), 1, [{"epoch": 1.0}])


def label(capsys, *arguments: str, code: int = 0):
    assert cli.main(["label", *arguments]) == code
    return capsys.readouterr()


def test_the_inbox_is_looked_at_by_the_model(capsys, monkeypatch):
    """The page has as many images as were asked for, with suggestions; those with a label and unreadable ones are left out. An
    export has those with a label, too, as annotations."""
    inbox.write(Path("new"), {"0.png": "cat"})
    Path("new/broken.png").write_text("none")
    served = []
    monkeypatch.setattr(server, "serve", lambda application, listener: served.append(application))
    out = label(capsys, "--inbox", "./new", "--model", "models/baseline", "--images", "3")
    assert "     3 new images" in out.out
    assert "1 of the inbox cannot be read" in out.err
    assert "http://127.0.0.1:" in out.out
    assert "dvc repro" in out.out
    tasks = json.loads(_exported(capsys, "--inbox", str(Path("new").resolve()), "--model", "models/baseline", "--images", "9"))
    of_inbox = [task for task in tasks if task["data"]["folder"] == "new"]
    assert sorted(task["data"]["path"] for task in of_inbox) == [f"{i}.png" for i in range(6)]
    (labelled,) = (task for task in of_inbox if "annotations" in task)
    assert (labelled["data"]["path"], labelled["annotations"][0]["result"][0]["value"]) == ("0.png", {"choices": ["cat"]})
    assert all(task["predictions"][0]["result"][0]["value"]["choices"][0] in CLASSES for task in of_inbox)
    assert served


def _exported(capsys, *options: str) -> str:
    label(capsys, *options, "--export-tasks", "tasks.json")
    return Path("tasks.json").read_text()


def test_labelled_images_of_the_inbox_come_into_the_source(capsys):
    """--add copies them, says what comes next, and names what it left out with exit code 1."""
    inbox.write(Path("new"), {"0.png": "cat", "1.png": "emu"})
    assert "2 images copied" in label(capsys, "--inbox", "new", "--add").out
    assert Path("photos/cat/0.png").exists()
    assert Path("photos/emu/1.png").exists()
    inbox.write(Path("new"), {"2.png": "cat"})
    assert "another image" in label(capsys, "--inbox", "new", "--add", code=1).err


def test_labels_of_label_studio_are_taken_over(capsys):
    """Those of the source become lines, of the inbox its table; what fits no image or no class is named, exit code 1."""

    def task(path: str, *choices: str) -> dict:
        return {"data": {"image": path}, "annotations": [{"result": [{"value": {"choices": list(choices)}}]}]}

    tasks = [task("/data/local-files/?d=photos/cat/1.png", "dog"), task("/data/upload/1/0a1b2c3d-4.png", "emu"),
             task("cat/2.png", "cat"), task("cat/9.png", "dog"), task("dog/1.png", "emu"),
             task("dog/2.png", "cat", "dog")]  # fmt: skip
    Path("export.json").write_text(json.dumps(tasks))
    out = label(capsys, "--import", "export.json", "--inbox", "new", "--name", "Ada", code=1)
    assert "3 labels taken over from export.json, 2 of them new" in out.out
    assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
    assert inbox.read(Path("new")) == {"4.png": "emu"}
    assert "`darkroom label --inbox new --add` copies the labelled images" in out.out
    for text in ("cat/9.png: there is no such image", "dog/1.png: the source has no class", "its annotations say cat, dog"):
        assert text in out.err
    assert {(item.image, item.name) for item in decisions.read(LOG)} == {
        (path, "Ada") for path in ("cat/1.png", "cat/2.png", "4.png")
    }


def test_tasks_come_back_as_they_were_given(capsys):
    """An export has the labels of the page as annotations; imported again, it changes nothing."""
    session = label_project.session()
    session.decide("conflicts", label_project.item_of(session, "cat/both.png"), "dog")
    session.decide("doubtful", label_project.item_of(session, "cat/3.png"), "cat")
    before = FIXES.read_text()
    tasks = {task["data"]["path"]: task for task in json.loads(_exported(capsys))}
    assert [path for path, task in tasks.items() if "annotations" in task] == ["cat/3.png", "cat/both.png"]
    assert "2 labels taken over" in label(capsys, "--import", "tasks.json").out
    assert FIXES.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--add"], "--help"), (["--inbox", "nowhere"], "name the folder"), (["--inbox", "new", "--add"], "asks for them"),
        (["--import", "none.json"], "export the project"), (["--name", " "], "--name Ada"), (["--json"], "--help"),
        (["--import", "a", "--export-tasks", "b"], "--help"),
        (["--inbox", "reports", "--model", "models/baseline"], "name the folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_with_a_remedy(capsys, arguments, remedy):
    """Exit code 2, no traceback, and nothing is written."""
    error = label(capsys, *arguments, code=2).err
    assert remedy in error.split("remedy: ")[1]
    assert not LOG.exists()


def test_without_an_ingest_the_stage_is_named(capsys):
    """The manifest lists what can be labelled."""
    Path("data/ingested/manifest.parquet").unlink()
    assert "dvc repro ingest" in label(capsys, code=2).err

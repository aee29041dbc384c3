"""Darkroom from Python: the same results as the commands, as objects that a notebook shows."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import darkroom as dr
from darkroom.api import heads
from darkroom.cli import main
from darkroom.evaluation import metrics_io
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.prediction_sets import ConformalScores
from darkroom.models.specs import CompactSpec
from tests.conftest import ROOT
from tests.evaluation import example_report
from tests.models.known_images import fit_dark

CLASSES = ("cat", "dög", "owl")
LEADERBOARD = """model,kind,accuracy,macro_f1,parameters,ms_per_image,train_seconds
baseline,model,0.9,0.89,100,0.2,3.0
transfer/<b>,model,0.95,0.94,200,0.3,4.0
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project with an untrained network, images, and a working folder elsewhere."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "models" / "baseline").mkdir(parents=True)
    architecture, preprocessing = CompactSpec(16, 4), Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, 3)
    scores = ConformalScores(tuple(0.02 * i for i in range(20, 50)), (0, 1, 2) * 10)
    distances = fit_dark(network, 16)
    checkpoint = Checkpoint("baseline", architecture, preprocessing, CLASSES, {}, {}, conformal=scores, abstention=distances)
    save(folder / "models" / "baseline", checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/<i>.png"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    (folder / "photos" / "broken.png").write_bytes(b"broken")
    return dr.open(folder)


@pytest.fixture
def photos(project):
    return project.folder / "photos"


def test_predictions_are_those_of_the_command(project, photos, monkeypatch, capsys):
    """Rows, probabilities and remedies are what `darkroom predict --json` prints, and the working folder stays."""
    before = Path.cwd()
    predictions = project.model("baseline").predict(photos)
    assert Path.cwd() == before
    monkeypatch.chdir(project.folder)
    assert main(["predict", str(photos), "--model", "models/baseline", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["predictions"] == json.loads(json.dumps([vars(row) for row in predictions]))
    frame = predictions.to_frame()
    assert frame["label"].isna().tolist() == [row.error is not None for row in predictions] == [False, True, False]
    assert np.allclose(predictions.probabilities[[0, 2]].sum(1), 1)
    assert np.isnan(predictions.probabilities[1]).all()
    assert list(frame.filter(like="p_")) == [f"p_{name}" for name in CLASSES]


def test_prediction_sets_are_those_of_the_command(project, photos, monkeypatch, capsys):
    """With a coverage Python, JSON, CSV and the table have the same sets, none for an image that cannot be read."""
    sets = [row.prediction_set for row in project.model("baseline").predict(photos, 0.9)]
    assert sets[1] is None
    assert all(row.prediction_set is None for row in project.model("baseline").predict(photos))
    monkeypatch.chdir(project.folder)
    command = ["predict", str(photos), "--model", "models/baseline", "--coverage", "0.9"]
    assert main([*command, "--json"]) == 1
    assert [row["prediction_set"] for row in json.loads(capsys.readouterr().out)["predictions"]] == sets
    assert main([*command, "--csv"]) == 1
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    assert [row["prediction_set"] for row in rows] == ["; ".join(names or []) for names in sets]
    assert main(command) == 1
    shown = [line.rpartition("{")[2] for line in capsys.readouterr().out.splitlines() if "{" in line]
    assert shown == [", ".join(names) + "}" for names in sets if names is not None]
    assert main([*command[:-1], "0.99"]) == 2
    assert "at most 0.967" in capsys.readouterr().err


def test_unknown_images_are_those_of_the_command(project, photos, monkeypatch, capsys, tmp_path):
    """Python, JSON, CSV and the table call the same images unknown, by `evaluate.refuse` or the share that is named."""
    rng = np.random.default_rng(0)
    for name, low, high in (("like.png", 0, 100), ("unlike.png", 254, 256)):
        Image.fromarray(rng.integers(low, high, (16, 16, 3), np.uint8)).save(tmp_path / name)
    paths = [str(tmp_path / "like.png"), str(tmp_path / "unlike.png"), str(photos / "broken.png")]
    model = project.model("baseline")
    rows = model.predict(paths)
    assert rows.unknown == rows.to_frame()["unknown"].tolist() == [False, True, None]
    assert "unknown, perhaps" in rows._repr_html_()
    monkeypatch.chdir(project.folder)
    command = ["predict", *paths, "--model", "models/baseline"]
    assert main([*command, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert [row["unknown"] for row in content["predictions"]] == rows.unknown
    assert content["abstention"]["refuse"] == 0.02
    assert [row["distance"] for row in content["predictions"]][:2] == pytest.approx([rows[0].distance, rows[1].distance])
    assert rows[0].distance <= content["abstention"]["distance"] < rows[1].distance
    assert main([*command, "--csv"]) == 1
    assert [row["unknown"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == ["false", "true", ""]
    assert main(command) == 1
    out = capsys.readouterr()
    assert ["unknown:" in line for line in out.out.splitlines()] == [False, True, False]
    assert "1 of 2 are unknown: farther from the training images than 98% of images like them" in out.err
    assert model.predict(paths, refuse=0).unknown == [None, None, None]
    assert main([*command, "--json", "--refuse", "0"]) == 1
    assert [row["unknown"] for row in json.loads(capsys.readouterr().out)["predictions"]] == [None, None, None]
    assert model.predict(paths, refuse=0.99).unknown == [True, True, None]
    (project.folder / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("refuse: 0.02", "refuse: 0"))
    assert main([*command, "--json"]) == 1
    assert [row["unknown"] for row in json.loads(capsys.readouterr().out)["predictions"]] == [None, None, None]
    shutil.copy(ROOT / "params.yaml", project.folder)


def test_images_in_memory_are_those_of_files(project, photos):
    """A file, a PIL image and an array of the same pixels have the same probabilities and embeddings."""
    model, path = project.model("baseline"), photos / "a.png"
    with Image.open(path) as image:
        forms = [path, str(path), image.copy(), np.asarray(image), [np.asarray(image)]]
    expected = model.predict(path).probabilities
    for form in forms:
        assert np.array_equal(model.predict(form).probabilities, expected)
        assert model.embed(form).shape == (1, model.classifier.network.features.dim)
    with Image.open(path) as image:  # lies on its side, and says so
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path.with_name("turned.png"), exif=exif)
    with Image.open(path.with_name("turned.png")) as turned:
        probabilities = model.predict([path.with_name("turned.png"), turned]).probabilities
    path.with_name("turned.png").unlink()
    assert np.array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], expected[0])
    assert model.predict([photos, path])[:2].labels == model.predict(photos)[:2].labels
    assert model.predict([]).probabilities.shape == (0, 3)


def test_a_damaged_image_in_memory_has_an_error(project, photos):
    """Pillow reads pixels late: an image whose file ends too early has an error and its remedy, as the file has."""
    content = (photos / "a.png").read_bytes()
    with Image.open(io.BytesIO(content[: len(content) // 2])) as image:
        rows = project.model("baseline").predict([image, photos / "a.png"])
    assert rows[0].error
    assert rows[0].remedy
    assert rows.labels[0] is None
    assert rows.labels[1] is not None


def test_a_heat_map_is_of_the_image_and_the_label(project, photos):
    """By default the predicted label is explained; another one has its own probability."""
    model = project.model("baseline")
    explanation = model.explain(photos / "a.png")
    row = model.predict(photos / "a.png")[0]
    assert (explanation.label, explanation.probability) == (row.label, row.confidence)
    assert explanation.heat.shape == (16, 16)
    assert explanation.overlay.shape == explanation.image.shape == (16, 16, 3)
    other = next(name for name in CLASSES if name != row.label)
    assert model.explain(photos / "a.png", other, by="occlusion").probability == pytest.approx(row.probabilities[other])


def test_what_a_notebook_shows_runs_nothing(project, photos):
    """Names from outside are escaped, pictures are inside the HTML, and unreadable images say why."""
    model = project.model("baseline")
    html = model.predict(photos)._repr_html_() + model.explain(photos / "deep" / "<i>.png")._repr_html_()
    assert "<i>" not in html
    assert "&lt;i&gt;.png" in html
    assert html.count("data:image/png;base64,") == html.count("<img") == 4
    assert model.predict(photos)[1].remedy in html


def test_a_leaderboard_is_that_of_the_command(project, monkeypatch, capsys):
    """The rows are what `darkroom leaderboard --json` prints; the selected model stands out, and names are escaped."""
    assert "dvc repro" in project._repr_html_()  # nothing is evaluated yet
    reports = project.folder / "reports"
    reports.mkdir()
    (reports / "leaderboard.csv").write_text(LEADERBOARD)
    labels = np.arange(10) % 2
    metrics, _ = example_report.results(("cat", "dog"), labels, {"baseline": np.eye(2)[labels] * 0.8 + 0.1})
    metrics_io.write(reports / "metrics.json", metrics)
    board = project.leaderboard()
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    assert main(["leaderboard", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["models"] == board.to_frame().to_dict("records")
    assert printed["best"] == board.best
    assert board["baseline"].accuracy == 0.9
    assert "<b>baseline</b>" in project._repr_html_()
    assert "transfer/&lt;b&gt;" in project._repr_html_()


def test_diagnostics_are_those_of_the_last_evaluation(project, tmp_path):
    """They are read where `diagnose` has run since `evaluate`, as dvc.lock says; otherwise there are none."""
    folder = tmp_path / "project"
    (folder / "reports").mkdir(parents=True)
    shutil.copy(project.folder / "params.yaml", folder)
    opened = dr.open(folder)
    assert opened.diagnostics is None
    example = example_report.evaluation()
    metrics_io.write(folder / "reports/diagnostics.json", example.diagnostics)
    for read, expected in (("a" * 32, example.diagnostics), ("b" * 32, None)):
        output = {"path": "reports/metrics.json", "md5": "a" * 32}
        stages = {"evaluate": {"outs": [output]}, "diagnose": {"deps": [output | {"md5": read}]}}
        (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
        assert opened.diagnostics == expected


MISTAKES = {
    "no project": (lambda project, photos: dr.open(photos), "params.yaml"),
    "no version": (lambda project, photos: project.model(7), "`darkroom models`"),
    "no model": (lambda project, photos: project.model("models/none"), "models"),
    "no embeddings": (lambda project, photos: project.embeddings("vgg16"), "dvc repro"),
    "no manifest": (lambda project, photos: project.manifest, "dvc repro ingest"),
    "no images": (lambda project, photos: project.model("baseline").predict(project.folder / "models"), "*.jpg"),
    "no image": (lambda project, photos: project.model("baseline").predict(np.zeros((4, 4, 3))), "uint8"),
    "no path": (lambda project, photos: project.model("baseline").predict([None]), "PIL"),
    "a number": (lambda project, photos: project.model("baseline").predict(3), "PIL"),
    "no class": (lambda project, photos: project.model("baseline").explain(photos / "a.png", "dog"), "owl"),
    "no method": (lambda project, photos: project.model("baseline").explain(photos / "a.png", by="x"), "LayerCAM"),
    "damaged": (lambda project, photos: project.model("baseline").embed(photos), "broken.png"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_remedy(project, photos, mistake):
    """Every mistake is a DarkroomError whose text has the remedy."""
    act, fact = MISTAKES[mistake]
    with pytest.raises(dr.DarkroomError) as error:
        act(project, photos)
    assert fact in str(error.value)
    assert "remedy: " in str(error.value)


def clusters(count=60, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array(["ant", "bee", "wasp"])[np.arange(count) % 3]
    centres = {"ant": (4, 0), "bee": (0, 4), "wasp": (-4, -4)}
    return np.array([centres[name] for name in names], np.float32) + rng.normal(size=(count, 2)).astype(np.float32), names


def test_a_head_is_trained_on_embeddings(capsys):
    """Separate clusters are told apart, with views or without; the same arguments give the same weights."""
    train, labels = clusters()
    test, expected = clusters(seed=1)
    head = dr.train_head(train, labels, epochs=20, lr=0.1)
    assert head.score(test, expected) > 0.9
    assert list(head.classes_) == ["ant", "bee", "wasp"]
    assert np.allclose(head.predict_proba(test).sum(1), 1)
    assert len(head.history) <= 20
    again = dr.train_head(train, labels, epochs=20, lr=0.1)
    assert np.array_equal(head.coef_, again.coef_)
    assert np.array_equal(dr.train_head(train, pd.Series(labels), epochs=20, lr=0.1).coef_, head.coef_)
    views = dr.train_head(np.stack([train, train + 0.1]), labels, (test, expected), epochs=20, lr=0.1)
    assert views.score(test, expected) > 0.9
    assert "val_accuracy" in head._repr_html_()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"labels": ["a"] * 60}, "two or more"), ({"labels": [1, 2]}, "N labels"), ({"lr": -1}, "lr"), ({"learning_rate": 1}, "lr"),
        ({"labels": [None] * 60}, "text"),
        ({"embeddings": [["x", "y"]] * 60}, "numbers"),
        ({"seed": -1}, "seed"),
        ({"threads": 0}, "threads"),
        ({"val": (np.zeros((0, 2)), np.array([], str))}, "M labels"),
        ({"val": (np.zeros((1, 2)), [1])}, "same form"),
        ({"labels": ["one", *["b"] * 59]}, "val"),
        ({"val": (np.zeros((1, 2)), ["fly"])}, "fly"), ({"val": (np.zeros((1, 3)), ["ant"])}, "(M, 2)"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(change, fact):
    """A head is trained on nothing that it would misread; settings are those of params.yaml."""
    train, labels = clusters()
    with pytest.raises(dr.DarkroomError) as error:
        dr.train_head(**{"embeddings": train, "labels": labels, "epochs": 1} | change)
    assert fact in str(error.value)


def test_the_settings_of_a_head_are_those_of_params_yaml(values):
    """`train_head` trains as the stage `transfer` does where params.yaml is as it comes."""
    assert values["transfer"] == heads.DEFAULTS


def test_importing_darkroom_imports_nothing_else():
    """`import darkroom` costs what its own file costs; each name in `__all__` is there when it is used."""
    code = "import sys, darkroom; print(*({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
    assert all(getattr(dr, name) for name in dr.__all__)
    assert set(dr.__all__) <= set(dir(dr))
    with pytest.raises(AttributeError, match="opne"):
        dr.opne  # noqa: B018

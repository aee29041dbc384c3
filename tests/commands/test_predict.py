"""`darkroom predict` classifies image files."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.cli import main
from darkroom.commands.predict import METHODS
from darkroom.inference import explanation
from darkroom.inference.classifier import Classifier
from darkroom.models import weight_files
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.specs import CompactSpec
from darkroom.tracking import registry
from tests.conftest import ROOT

CLASSES = ("cat", "dög", "owl")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a checkpoint of an untrained network."""
    folder = tmp_path_factory.mktemp("models") / "baseline"
    folder.mkdir()
    architecture = CompactSpec(16, 4)
    preprocessing = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, 3)
    save(folder, Checkpoint("baseline", architecture, preprocessing, CLASSES, {}, {}), network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return a folder with three images, one of them in a subfolder, and files that are no images."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    rng = np.random.default_rng(0)
    for name in ("photos/b.png", "photos/a.JPG", "photos/deep/c.webp", "photos/.hidden/d.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(file)
    (tmp_path / "photos/notes.txt").write_text("none")
    (tmp_path / "photos/broken.png").write_bytes(b"broken")
    return tmp_path / "photos"


def predict(capsys, *arguments, code=0):
    assert main(["predict", *map(str, arguments)]) == code
    return capsys.readouterr()


def test_a_table_of_files(model, photos, capsys):
    """Each file has a line with its label and confidence, in the order of the arguments, and the model is
    named."""
    out = predict(capsys, photos / "b.png", photos / "a.JPG", photos / "b.png", "--model", model)
    lines = out.out.splitlines()
    assert [line.split()[0] for line in lines] == [str(photos / "b.png"), str(photos / "a.JPG")]
    assert all(line.split()[1] in CLASSES and line.endswith("%") for line in lines)
    assert f"by {model} (baseline)" in out.err
    three = predict(capsys, photos / "b.png", "--model", model, "--top", 5).out
    assert all(name in three for name in CLASSES)


@pytest.mark.parametrize("text", [None, "alpha: 1\n", "compute: fast\n", "- a\n", "compute: {accelerator: auto, of_before: 1}\n"])
def test_params_of_another_program_are_no_reason_not_to_predict(model, photos, capsys, text):
    """A model in a folder predicts without params.yaml, and beside one that is not Darkroom's, or of another version."""
    file = photos.parent / "params.yaml"
    file.unlink() if text is None else file.write_text(text)
    assert predict(capsys, photos / "b.png", "--model", model).out.startswith(str(photos / "b.png"))


def test_the_accelerator_of_params_is_the_device(model, photos, capsys):
    """`compute.accelerator: cuda` is not ignored: without such a device it is refused, with the remedy."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    file = photos.parent / "params.yaml"
    file.write_text(file.read_text().replace("accelerator: auto", "accelerator: cuda"))
    error = predict(capsys, photos / "b.png", "--model", model, code=2).err
    assert "cuda" in error
    assert "remedy: set `compute.accelerator`" in error


def test_what_never_ends_is_no_file(model, photos, capsys):
    """A pipe, a device and a socket have an error, without being read; the other files are classified."""
    os.mkfifo(photos / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(photos / "socket.png"))
        names = [photos / "pipe.png", "/dev/zero", photos / "socket.png", photos / "b.png"]
        rows = json.loads(predict(capsys, *names, "--json", "--model", model, code=1).out)["predictions"]
    assert [row["label"] is None for row in rows] == [True, True, True, False]
    assert all("pipe" in row["error"] for row in rows[:3])


def test_folders_globs_and_names_from_stdin(model, photos, capsys, monkeypatch):
    """A folder is searched whole for images, without hidden ones; a glob is expanded; `-` reads names."""

    def paths(*names, code=0):
        return [
            row["path"] for row in json.loads(predict(capsys, *names, "--json", "--model", model, code=code).out)["predictions"]
        ]

    images = [str(photos / name) for name in ("a.JPG", "b.png", "broken.png", "deep/c.webp")]
    assert paths(photos, code=1) == images
    assert paths("photos/*.JPG") == ["photos/a.JPG"]
    assert paths("photos/**/*.webp") == ["photos/deep/c.webp"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"photos/a.JPG\n\nphotos/b.png\r\nno\0name\n\xff")))
    assert paths("-", code=1) == ["photos/a.JPG", "photos/b.png", "no\0name", "\udcff"]


def test_an_unreadable_file_has_a_row_and_the_others_are_classified(model, photos, capsys):
    """The row of an unreadable file has its error and remedy, the others have labels; the exit code is 1."""
    names = [photos / "broken.png", photos / "missing.png", photos / "a.JPG", photos / "notes.txt"]
    output = json.loads(predict(capsys, *names, "--json", "--model", model, code=1).out)
    rows = output["predictions"]
    assert [row["label"] in CLASSES for row in rows] == [False, False, True, False]
    assert "no image" in rows[0]["error"]
    assert rows[1]["error"] == "no such file or directory"
    assert all(bool(row["remedy"]) == bool(row["error"]) for row in rows)
    out = predict(capsys, *names, "--model", model, code=1)
    assert "error: no such file or directory" in out.out
    assert "3 of 4 could not be read" in out.err


def test_predictions_are_those_of_the_classifier_and_name_the_model(model, photos, capsys):
    """JSON and CSV hold the classifier's own probabilities, every class, and the checkpoint that they are of."""
    expected = Classifier.load(model).predict_files([(photos / "a.JPG").read_bytes()])[0].probabilities
    output = json.loads(predict(capsys, photos / "a.JPG", "--json", "--model", model).out)
    assert output["model"] == {
        "name": str(model), "version": "", "model": "baseline", "checkpoint_sha256": weight_files.checkpoint_digest(model),
        "classes": list(CLASSES),
    }  # fmt: skip
    (row,) = output["predictions"]
    assert list(row["probabilities"].values()) == pytest.approx(expected.tolist())
    assert row["confidence"] == max(row["probabilities"].values())
    (line,) = csv.DictReader(io.StringIO(predict(capsys, photos / "a.JPG", "--csv", "--model", model).out))
    assert [float(line[name]) for name in CLASSES] == pytest.approx(expected.tolist())
    assert (line["label"], line["error"], line["checkpoint_sha256"]) == (row["label"], "", weight_files.checkpoint_digest(model))


def test_registered_models_by_alias_number_and_uri(model, photos, capsys, monkeypatch):
    """The champion predicts unless another model is named, by alias, number or MLflow's URI; its version is
    printed."""
    listed = [registry.Version("1", "baseline"), registry.Version("2", "baseline", aliases=["champion"])]
    fetched = []

    def fetch(name, version):
        fetched.append((name, version))
        return model.parent

    monkeypatch.setattr(registry, "versions", lambda name: listed)
    monkeypatch.setattr(registry, "fetch", fetch)
    shutil.copytree(model, model.parent / "checkpoint", dirs_exist_ok=True)
    for arguments in ([], ["--model", "1"], ["--model", "models:/birds/1"], ["--model", "models:/birds@champion"]):
        out = predict(capsys, photos / "a.JPG", *arguments)
    assert fetched == [("darkroom", "2"), ("darkroom", "1"), ("birds", "1"), ("birds", "2")]
    assert "by version 2 of birds (baseline)" in out.err
    listed.pop()
    out = predict(capsys, photos / "a.JPG", code=2)
    assert "has no champion: version" in out.err
    assert "remedy:" in out.err


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["photos", "--model", "no/such"], "no/such"),
        (["photos", "--model", "photos"], "photos is not a checkpoint"),
        (["photos/.hidden/*.gif"], "photos/.hidden/*.gif"),
        (["photos", "--top", "0"], "--top"),
        (["photos", "--explain-by", "Grad-CAM"], "--explain-to"),
        (["photos", "--explain-by", "GradCAM", "--explain"], "Grad-CAM"),
        (["photos", "--json", "--csv"], "--csv"),
    ],
)
def test_mistakes_have_a_remedy(arguments, fact, photos, capsys):
    """A wrong model, or nothing to predict, is one message with a remedy and exit code 2."""
    out = predict(capsys, *arguments, code=2)
    assert fact in out.err
    assert "remedy:" in out.err


def test_names_that_are_not_utf_8(model, photos, capsys):
    """A file whose name is not UTF-8 is classified like any other."""
    strange = os.fsencode(photos) + b"/\xff.png"
    shutil.copy(photos / "b.png", strange)
    for form in ([], ["--csv"], ["--json"]):
        out = predict(capsys, os.fsdecode(strange), "--model", str(model), *form).out
        assert "dc" in out.lower()
        out.encode()


def test_heat_maps_are_shown(model, photos, capsys):
    """`--explain-to` writes a picture for each readable image and names it in the JSON; a folder of other
    files is refused."""
    out = predict(capsys, photos, "--model", model, "--json", "--explain-to", "out", code=1)
    rows = json.loads(out.out)["predictions"]
    assert [row.get("explanation") for row in rows] == ["out/1-a.png", "out/2-b.png", None, "out/3-c.png"]
    assert all(os.path.exists(row["explanation"]) for row in rows if not row["error"])
    assert "heat maps: out/index.html" in out.err
    assert "photos" in predict(capsys, photos, "--model", model, "--explain-to", "photos", code=2).err
    assert (photos / "b.png").exists()


def test_every_method_of_heat_maps(model, photos, capsys):
    """`--explain-by` takes every method of the inference room, and the page names it."""
    assert set(METHODS) == set(explanation.METHODS)
    for method in METHODS:
        predict(capsys, photos / "b.png", "--model", model, "--explain-to", "out", "--explain-by", method)
        assert method in Path("out/index.html").read_text()


def test_help_imports_no_torch():
    """Neither the help of `predict` nor that of `monitor` imports torch, numpy or MLflow."""
    code = (
        "import sys; from darkroom.cli import main; assert main(['predict', '--help']) == main(['monitor', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

"""Programs of a checkpoint: the same answers without what trained it, and no pickle among them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import strategies as st
from safetensors.torch import load_file

from darkroom.core.errors import WeightsError
from darkroom.inference import export, exported_classifier
from darkroom.inference.classifier import Classifier
from darkroom.inference.held_out import as_file
from darkroom.inference.predict import softmax
from darkroom.models import engine
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save, save_tensors
from darkroom.models.factory import build_features
from tests.models.test_backbones import spec

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def checkpoint(folder: Path, architecture: dict, temperature: float = 1.0) -> Path:
    preprocessing = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    made = Checkpoint("some", architecture, preprocessing, ("a", "b"), {}, {}, temperature)
    network = Network(build_features(architecture, 0), made.preprocessing, 2, 0)
    folder.mkdir(parents=True)
    save(folder, made, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


def architecture(family: str) -> dict:
    if family == "compact":
        return {"family": "compact", "image_size": 32, "width": 4}
    if family == "classic":  # skips that cut out pixels and add channels
        return {"family": "classic", "name": "resnet8", "image_size": 32, "channels": 1, "options": {"width": 4}}
    if family == "averaged":  # made for 28 pixels, so that the map is averaged to the grid of its fully connected layers
        return {"family": "classic", "name": "lenet5", "image_size": 28, "channels": 1, "options": {}}
    return {**spec(family, "pooled").as_dict(), "image_size": 32}


@pytest.mark.parametrize("family", ["compact", "classic", "averaged", "MobileNetV3", "VGG"])
def test_both_programs_answer_like_the_checkpoint(tmp_path, family):
    """ONNX and torch.export program give the checkpoint's logits within 1e-4 of the largest, for any number of images."""
    folder = checkpoint(tmp_path / "model", architecture(family))
    apart = export.export(Classifier.load(folder), IMAGES, tmp_path / "out")
    assert set(apart) == {exported_classifier.ONNX, exported_classifier.TORCH}
    classifier = Classifier.load(folder)
    many = np.concatenate([IMAGES] * 12)
    for kept in ({exported_classifier.ONNX, exported_classifier.TORCH}, {exported_classifier.TORCH}):
        for name in {exported_classifier.ONNX, exported_classifier.TORCH} - kept:
            (tmp_path / "out" / name).unlink()
        program = exported_classifier.ExportedClassifier(tmp_path / "out")
        expected = classifier.logits(many)
        assert np.abs(program.logits(many) - expected).max() <= engine.TOLERANCE * np.abs(expected).max()
        assert program.classes == ("a", "b")
    assert program.logits(many[:0]).shape == (0, 2)


def test_no_program_holds_a_pickle(tmp_path):
    """Neither the torch.export archive nor any file of the folder is or holds a pickle."""
    export.export(Classifier.load(checkpoint(tmp_path / "model", architecture("compact"))), IMAGES, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "model.onnx", "model.pt2"]
    with zipfile.ZipFile(tmp_path / "out" / exported_classifier.TORCH) as archive:
        for item in archive.infolist():
            assert archive.read(item)[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK"), item.filename


def test_programs_and_checkpoint_have_one_temperature(tmp_path):
    """Programs and checkpoint give the same probabilities, those at the temperature, for arrays, files and embeddings alike."""
    folder = checkpoint(tmp_path / "model", architecture("compact"), temperature=0.01)
    classifier = Classifier.load(folder)
    export.export(classifier, IMAGES, tmp_path / "out")
    logits = classifier.logits(IMAGES)
    expected = softmax(logits, 0.01)
    assert np.abs(expected - softmax(logits)).max() > 0.01
    assert (expected.argmax(1) == logits.argmax(1)).all()
    for given in (classifier.probabilities(IMAGES), classifier.embed(IMAGES)[1]):
        np.testing.assert_allclose(given, expected, rtol=1e-4)
    files = [as_file(image) for image in IMAGES]
    for name in (exported_classifier.ONNX, exported_classifier.TORCH):
        program = exported_classifier.ExportedClassifier(tmp_path / "out")
        np.testing.assert_allclose(softmax(program.logits(IMAGES)), expected, rtol=1e-3)
        for model in (program, classifier):
            np.testing.assert_allclose([answer.probabilities for answer in model.predict_files(files)], expected, rtol=1e-3)
        (tmp_path / "out" / name).unlink()


@over(st.integers(0, 10**6), st.floats(0.05, 20))
def test_no_temperature_changes_what_is_most_likely(seed, temperature):
    """The class with the largest logit stays the one with the largest probability, however close another comes."""
    draw = np.random.default_rng(seed)
    logits = (draw.normal(size=(20, 4)) * 10.0 ** draw.integers(-2, 3)).astype(np.float32)
    logits[:, 3] = np.nextafter(logits[:, 1], np.float32(np.inf))
    assert (softmax(logits, temperature).argmax(1) == logits.argmax(1)).all()


def test_it_answers_without_torch(tmp_path):
    """The ONNX program answers for image files in a process that has not imported torch."""
    export.export(Classifier.load(checkpoint(tmp_path / "model", architecture("compact"))), IMAGES, tmp_path / "out")
    code = (
        "import sys; from pathlib import Path; from darkroom.inference.exported_classifier import ExportedClassifier\n"
        "answers = Exported(Path('out')).files([b'no image'])\n"
        "assert predictions[0].error == 'not_an_image' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_program_that_answers_otherwise_is_left_out(tmp_path, monkeypatch, capsys):
    """A program with other answers, or none, is not kept and is named; where none is left that is a mistake with a remedy."""
    folder = checkpoint(tmp_path / "model", architecture("compact"))
    other = checkpoint(tmp_path / "other", architecture("compact"))
    tensors = load_file(other / "model.safetensors")
    save_tensors(other / "model.safetensors", {key: value * 1.5 for key, value in tensors.items()})
    wrong = engine.export(Classifier.load(other).network, IMAGES[:2])
    monkeypatch.setattr(engine, "export", lambda network, example: wrong)
    assert set(export.export(Classifier.load(folder), IMAGES, tmp_path / "out")) == {exported_classifier.TORCH}
    assert not (tmp_path / "out" / exported_classifier.ONNX).exists()
    assert "some has no model.onnx: its logits differ" in capsys.readouterr().out
    monkeypatch.setattr(export, "_write_torch", lambda *_: 1 / 0)
    with pytest.raises(WeightsError, match="cannot be exported"):
        export.export(Classifier.load(folder), IMAGES, tmp_path / "none")
    assert "some has no model.pt2: ZeroDivisionError: division by zero" in capsys.readouterr().out

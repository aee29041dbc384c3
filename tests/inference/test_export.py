"""Exported programs: the same predictions as the checkpoint, without its code, and no pickle among them."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.inference.classifier import Classifier
from darkroom.inference.export import FORMATS, CalibratedNetwork, export
from darkroom.inference.exported_classifier import ONNX, TORCH, ExportedClassifier
from darkroom.inference.held_out import as_file
from darkroom.models import engine
from darkroom.models.abstention import NO_DISTANCES
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.probabilities import softmax
from darkroom.models.specs import ArchitectureSpec, CompactSpec, NetworkSpec
from tests.models.known_images import fit_dark
from tests.models.test_backbones import spec

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
TEMPERATURE = 0.01


def write_checkpoint(folder: Path, architecture: NetworkSpec, temperature: float = 1.0, is_known: bool = True) -> Path:
    preprocessing = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture, 0), preprocessing, 2, 0)
    folder.mkdir(parents=True)
    distances = fit_dark(network, 32) if is_known else NO_DISTANCES
    checkpoint = Checkpoint("some", architecture, preprocessing, ("a", "b"), {}, {}, temperature, abstention=distances)
    save(folder, checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


def architecture(family: str) -> NetworkSpec:
    if family == "compact":
        return CompactSpec(32, 4)
    if family == "classic":  # skips that subsample and pad channels
        return ArchitectureSpec("resnet8", 32, 1, {"width": 4})
    if family == "squeezed":  # squeeze-and-excitation and convolutions per channel
        return ArchitectureSpec("efficientnet", 32, 3, {"width": 0.1, "depth": 0.1})
    if family == "averaged":  # made for 28 pixels, so that the map is averaged to the grid of its fully connected layers
        return ArchitectureSpec("lenet5", 28, 1)
    return replace(spec(family, "pooled"), image_size=32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Classifier, Path]:
    """Export a small checkpoint at a temperature; return its classifier and the folder of its programs."""
    place = tmp_path_factory.mktemp("export")
    classifier = Classifier.load(write_checkpoint(place / "model", architecture("compact"), TEMPERATURE))
    export(classifier, IMAGES, place / "out")
    return classifier, place / "out"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["compact", "classic", "averaged", "squeezed", "SqueezeNet"])
def test_both_programs_compute_the_checkpoints_logits(tmp_path, family):
    """ONNX and torch.export program give the checkpoint's logits within 1e-4 of the largest, for any number
    of images."""
    classifier = Classifier.load(write_checkpoint(tmp_path / "model", architecture(family)))
    assert set(export(classifier, IMAGES, tmp_path / "out")) == {ONNX, TORCH}
    images = np.concatenate([IMAGES] * 12)
    expected = classifier.logits(images)
    for _ in range(2):
        program = ExportedClassifier(tmp_path / "out")
        assert np.abs(program.logits(images) - expected).max() <= engine.TOLERANCE * np.abs(expected).max()
        assert program.classes == ("a", "b")
        (tmp_path / "out" / ONNX).unlink(missing_ok=True)
    assert program.logits(images[:0]).shape == (0, 2)


@pytest.mark.slow
def test_no_program_holds_a_pickle(exported):
    """Neither the torch.export archive nor any file of the folder is or holds a pickle."""
    _, folder = exported
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.json", "model.onnx", "model.pt2"]
    with zipfile.ZipFile(folder / TORCH) as archive:
        for item in archive.infolist():
            assert archive.read(item)[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK"), item.filename


@pytest.mark.slow
def test_programs_and_checkpoint_have_one_temperature(exported, tmp_path):
    """Programs and checkpoint give the same probabilities, those at the temperature, for arrays, files and
    embeddings alike."""
    classifier, folder = exported
    logits = classifier.logits(IMAGES)
    expected = softmax(logits, TEMPERATURE)
    assert np.abs(expected - softmax(logits)).max() > 0.01
    assert (expected.argmax(1) == logits.argmax(1)).all()
    for probabilities in (classifier.probabilities(IMAGES), classifier.embed(IMAGES)[1]):
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    files = [as_file(image) for image in IMAGES]
    shutil.copytree(folder, tmp_path / "torch")
    (tmp_path / "torch" / ONNX).unlink()
    for program in (ExportedClassifier(folder), ExportedClassifier(tmp_path / "torch")):
        np.testing.assert_allclose(softmax(program.logits(IMAGES)), expected, rtol=1e-3)
        for model in (program, classifier):
            predictions = model.predict_files(files)
            np.testing.assert_allclose([prediction.probabilities for prediction in predictions], expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_programs_tell_unknown_images(exported, tmp_path, name):
    """Programs of each format output the checkpoint's distances, and their description has its threshold; those of a model without
    abstention have neither, and are read as before."""
    if name == "openvino":
        pytest.importorskip("openvino")
    classifier, _ = exported
    images = np.concatenate([IMAGES, IMAGES // 3])
    expected = classifier.measure(images).distances
    (program,) = export(classifier, IMAGES, tmp_path / "out", [name])
    distances = FORMATS[name].load(tmp_path / "out" / program)(images).distances
    assert distances == pytest.approx(expected, abs=1e-4 * float(expected.max()))
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["abstention"] == classifier.threshold.as_dict()
    assert "unknown" in (tmp_path / "out" / "README.md").read_text()
    earlier = Classifier.load(write_checkpoint(tmp_path / "model", architecture("compact"), is_known=False))
    assert earlier.threshold is None
    (program,) = export(earlier, IMAGES, tmp_path / "earlier", [name])
    assert FORMATS[name].load(tmp_path / "earlier" / program)(images).distances is None
    assert "unknown" not in (tmp_path / "earlier" / "README.md").read_text()


@pytest.mark.slow
def test_a_damaged_program_is_not_used(exported, tmp_path):
    """A program or a description of which a byte was changed is refused by name; folders of earlier versions are read."""
    folder = shutil.copytree(exported[1], tmp_path / "out")
    for name in (ONNX, "model.json"):
        content = (folder / name).read_bytes()
        at = content.index(b"a") if name == "model.json" else len(content) // 2
        (folder / name).write_bytes(content[:at] + b"~" + content[at + 1 :])
        with pytest.raises(WeightsError, match=name):
            ExportedClassifier(folder)
        (folder / name).write_bytes(content)
    description = json.loads((folder / "model.json").read_text())
    del description["files"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(WeightsError, match=r"model\.json"):
        ExportedClassifier(folder)
    del description["checksum"]
    (folder / "model.json").write_text(json.dumps(description))
    assert ExportedClassifier(folder).classes == ("a", "b")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full")
def test_a_full_disk_does_not_end_the_process(exported, tmp_path):
    """Where a torch program cannot be written, export reports it as any other file's; torch's own writer aborts."""
    (tmp_path / TORCH).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        FORMATS["pt2"].write(CalibratedNetwork(exported[0]), IMAGES[:2], {}, tmp_path)


@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_no_temperature_changes_the_most_probable_class(seed, temperature):
    """The class with the largest logit stays the one with the largest probability, however close another one
    is."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(20, 4)) * 10.0 ** rng.integers(-2, 3)).astype(np.float32)
    logits[:, 3] = np.nextafter(logits[:, 1], np.float32(np.inf))
    assert (softmax(logits, temperature).argmax(1) == logits.argmax(1)).all()


@pytest.mark.slow
def test_the_onnx_program_needs_no_torch(exported):
    """The ONNX program classifies image files in a process that has not imported torch."""
    code = (
        "import sys; from pathlib import Path; from darkroom.inference.exported_classifier import ExportedClassifier\n"
        f"predictions = ExportedClassifier(Path({str(exported[1])!r})).predict_files([b'no image'])\n"
        "assert predictions[0].error == 'not_an_image' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_program_with_other_predictions_is_left_out(exported, tmp_path, monkeypatch, capsys):
    """A program with other logits, or that cannot be made, is left out and named; without any there is an
    error with a remedy."""
    classifier, _ = exported
    other = Classifier.load(write_checkpoint(tmp_path / "other", architecture("compact")))
    for tensor in other.network.state_dict().values():
        tensor.copy_(tensor * 1.5)
    names = ("images", ("logits", "probabilities"))
    wrong = engine.export_onnx(CalibratedNetwork(other), IMAGES[:2], *names)
    monkeypatch.setattr(engine, "export_onnx", lambda *_: wrong)
    assert set(export(classifier, IMAGES, tmp_path / "out")) == {TORCH}
    assert not (tmp_path / "out" / ONNX).exists()
    assert ONNX in capsys.readouterr().out
    monkeypatch.setitem(FORMATS, "pt2", replace(FORMATS["pt2"], write=lambda *_: 1 / 0))
    with pytest.raises(WeightsError, match="cannot be exported"):
        export(classifier, IMAGES, tmp_path / "none")
    message = capsys.readouterr().out
    assert TORCH in message
    assert "division by zero" in message


@pytest.mark.slow
def test_a_full_disk_is_no_verdict_on_the_network(exported, tmp_path, monkeypatch):
    """Where a program cannot be written since the disk is full, the export ends with code 75: the network can be exported."""

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=fill))
    with pytest.raises(WorkspaceError, match="disk is full") as error:
        export(exported[0], IMAGES, tmp_path / "out")
    assert error.value.code == 75


def test_a_program_that_does_not_fit_on_the_disk_is_refused_before_it_is_written(exported, tmp_path, monkeypatch):
    """A program has at least the bytes of its weights: the message names it, them, and what is free."""
    classifier, _ = exported
    needed = sum(weights.nbytes for weights in classifier.network.state_dict().values())
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(WorkspaceError, match=rf"{ONNX} needs more than {needed / 1e6:,.1f} MB") as caught:
        export(classifier, IMAGES, tmp_path / "out")
    assert caught.value.code == 75
    assert not list((tmp_path / "out").glob("*"))

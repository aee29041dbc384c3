"""The program of 8-bit integers of a version: validation calibrates it, test can refuse it, and predicting by it."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from darkroom.api import model_card, model_resolver
from darkroom.cli import main
from darkroom.config import params
from darkroom.config.params import Register
from darkroom.core.errors import ParamsError, WeightsError
from darkroom.evaluation import cost
from darkroom.inference import export, web_runtime
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import INT8_DESCRIPTION, INT8_ONNX, ExportedClassifier
from darkroom.inference.held_out import as_file
from darkroom.inference.quantized_classifier import QuantizedClassifier
from darkroom.inference.web_runtime import Runtime
from darkroom.monitoring.reference import HeldOut
from darkroom.stages import int8_program
from darkroom.stages.int8_program import Verdict
from darkroom.tracking.entities import Version
from darkroom.tracking.pyfunc_model import ExportedModel
from tests.conftest import ROOT
from tests.inference.test_export import architecture, write_checkpoint
from tests.models.changed_weights import change_weights

RNG = np.random.default_rng(0)
VAL, TEST = (RNG.integers(0, 256, (count, 32, 32, 3), np.uint8) for count in (60, 40))
LIMITS = params.read(ROOT / "params.yaml").register_.model_copy(update={"max_calibration_error": 1.0})


def _balanced(folder: Path) -> Path:
    """Let the network of a checkpoint predict either class for half of the images."""
    logits = Classifier.load(folder).logits(np.concatenate([VAL, TEST]))
    shift = float(np.median(logits[:, 0] - logits[:, 1]))

    def balance(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["head.bias"][0] -= shift
        return tensors

    change_weights(folder, balance)
    return folder


def make(place: Path, limits: Register = LIMITS) -> tuple[Classifier, Verdict]:
    """Quantise an untrained network; the labels are what it predicts, but for every tenth image."""
    parent = Classifier.load(_balanced(write_checkpoint(place / "checkpoint", architecture("compact"))))
    labels = [parent.logits(images).argmax(1) ^ (np.arange(len(images)) % 10 == 0) for images in (VAL, TEST)]
    groups = [[f"{number}" for number in range(len(images))] for images in (VAL, TEST)]
    (place / "exported").mkdir()
    return parent, int8_program.make(parent, VAL[:16], HeldOut([VAL, TEST], labels, groups), place / "exported", limits)


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> tuple[Path, Classifier, Verdict]:
    """Return the folder of a version with the program, its parent and the verdict."""
    place = tmp_path_factory.mktemp("version")
    return place, *make(place)


@pytest.mark.slow
def test_validation_calibrates_the_program(version):
    """Temperature, prediction sets and abstention are those of the program's own outputs on validation, the threshold for the
    parent's share; the parent's files are left alone."""
    place, parent, verdict = version
    assert verdict.accepted
    assert sorted(path.name for path in (place / "exported").iterdir()) == [INT8_DESCRIPTION, INT8_ONNX]
    program = QuantizedClassifier(parent, place / "exported")
    assert program.checkpoint.temperature == verdict.temperature != parent.checkpoint.temperature
    assert len(program.checkpoint.conformal.scores) == len(VAL)
    measured = program.measure(VAL)
    assert program.checkpoint.abstention.distances == pytest.approx(np.sort(measured.distances), rel=1e-3)
    assert program.threshold.refuse == parent.threshold.refuse
    prediction_sets = program.checkpoint.conformal.sets(measured.probabilities, 0.9)
    labels = parent.logits(VAL).argmax(1) ^ (np.arange(len(VAL)) % 10 == 0)
    assert prediction_sets[np.arange(len(VAL)), labels].mean() >= 0.9
    with_files = [row.probabilities for row in program.predict_files([as_file(image) for image in TEST[:4]])]
    np.testing.assert_allclose(with_files, program.probabilities(TEST[:4]), rtol=1e-4)


@pytest.mark.slow
def test_the_speed_is_compared_on_one_thread(tmp_path, monkeypatch):
    """Both programs are compared alike, without the time in which other programs had the cores: float32 that waited 33 times as
    long is not said to be slow; what limits the latency is the batch, as in the leaderboard."""
    speeds, compared = [cost.Speed(33.0, 40.0, 32.0, 1.9), cost.Speed(1.0, 1.2, 640.0, 1.9)], []

    def compare(*arguments):
        compared.append(arguments)
        return cost.Speedup(1.25, 1.75)

    monkeypatch.setattr(cost, "measure", lambda *_, **__: speeds.pop(0))
    monkeypatch.setattr(cost, "compare", compare)
    _, verdict = make(tmp_path, LIMITS.model_copy(update={"max_milliseconds": 10.0}))
    assert "on one thread 1.2 times as fast for one image and 1.8 times in batches" in verdict.message
    assert "33" not in verdict.message
    assert [program.session.get_session_options().intra_op_num_threads for program in compared[0][:2]] == [1, 1]
    assert [check.figures["value"] for check in verdict.checks if check.name == "latency"] == [1000 / 640]
    assert (verdict.float32.ms_per_image, verdict.int8.ms_per_image, verdict.busy) == (33.0, 1.0, 1.9)
    assert json.loads(json.dumps(verdict.as_dict()))["speedup"] == {"single": 1.25, "batch": 1.75}


@pytest.mark.slow
def test_a_program_that_fails_a_check_is_refused(tmp_path):
    """Where a check fails, no file of the program is left, and the verdict names the figure and the limit."""
    _, verdict = make(tmp_path, LIMITS.model_copy(update={"max_megabytes": 0.001}))
    assert not verdict.accepted
    assert "refused: " in verdict.message
    assert "the limit is 0.001" in verdict.message
    assert not list((tmp_path / "exported").iterdir())
    assert json.loads(json.dumps(verdict.as_dict()))["int8"]["megabytes"] > 0.001


def _with_outliers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Let a channel of every activation be 10,000 times as large, and its weights in the next layer as much smaller: the same
    network in float32, of whose other channels 8 bits leave nothing."""
    layers = [key.removesuffix(".0.weight") for key in tensors if key.startswith("features.stages") and key.endswith(".0.weight")]
    for layer, after in zip(layers, [*(f"{layer}.0.weight" for layer in layers[1:]), "head.weight"], strict=True):
        for part in ("weight", "bias"):
            tensors[f"{layer}.1.{part}"][0] *= 1e4
        tensors[after][:, 0] *= 1e-4
    return tensors


@pytest.mark.slow
def test_a_network_that_loses_is_refused_with_the_figure(tmp_path):
    """A network of which 8 bits leave little, also with a quarter of its layers in float32, is registered without a program: the
    verdict has its accuracy beside that in float32, and the check that it fails."""
    folder = write_checkpoint(tmp_path / "checkpoint", architecture("compact"))
    change_weights(folder, lambda tensors: tensors | {"head.weight": 1000 * tensors["head.weight"]})  # which is sure of its labels
    before = Classifier.load(_balanced(folder)).logits(TEST)
    change_weights(folder, _with_outliers)
    parent = Classifier.load(folder)
    np.testing.assert_allclose(parent.logits(TEST), before, rtol=1e-2, atol=1e-2)
    labels = [parent.logits(images).argmax(1) for images in (VAL, TEST)]
    groups = [[f"{number}" for number in range(len(images))] for images in (VAL, TEST)]
    (tmp_path / "exported").mkdir()
    verdict = int8_program.make(parent, VAL[:16], HeldOut([VAL, TEST], labels, groups), tmp_path / "exported", LIMITS)
    assert not verdict.accepted
    assert verdict.divergence > int8_program.MAX_DIVERGENCE
    assert (verdict.float32.accuracy, verdict.int8.accuracy) == (1, pytest.approx(0.5, abs=0.25))
    failed = [check.message for check in verdict.checks if not check.passed]
    assert f"accuracy is {verdict.int8.accuracy:.4f}" in " ".join(failed)
    assert verdict.message == f"it is refused: {'; '.join(failed)}"
    assert not list((tmp_path / "exported").iterdir())


@pytest.mark.parametrize(("errors", "chosen"), [([0.01], 0), ([0.2, 0.03], 1), ([0.2, 0.1, 0.15], 1), ([np.nan, 0.3, 0.2], 2)])
def test_a_network_that_loses_has_layers_in_float32(tmp_path, monkeypatch, errors, chosen):
    """The first program within the limit is taken, with no more layers in float32 than it needs; else the nearest one."""
    mixtures, left = [[], ["a"], ["a", "b"]], list(errors)
    quantizer = SimpleNamespace(mixtures=lambda: mixtures, write=lambda file, layers: file.write_text(" ".join(layers)))
    monkeypatch.setattr(int8_program, "OnnxProgram", lambda file: None)
    monkeypatch.setattr(int8_program, "_outputs", lambda *_: (np.zeros((1, 2)), None))
    monkeypatch.setattr(int8_program.quantization, "divergence", lambda *_: left.pop(0))
    parent = SimpleNamespace(probabilities=lambda images: None)
    assert int8_program._choose(parent, quantizer, VAL, tmp_path / "program") == (mixtures[chosen], errors[chosen])
    assert not left
    assert (tmp_path / "program").read_text() == " ".join(mixtures[chosen])
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


@pytest.mark.slow
def test_a_network_that_cannot_be_quantised_is_registered_without(tmp_path, monkeypatch):
    """Where no program can be made, the verdict says why, and nothing of it is left: the version is registered as without int8."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture("compact"))
    monkeypatch.setattr(int8_program.reference, "load_held_out", lambda _: HeldOut([VAL, TEST], [np.zeros(60, int)] * 2, [[], []]))
    monkeypatch.setattr(int8_program.arrays, "load_split", lambda _: (VAL, np.zeros(60, int)))
    monkeypatch.setattr(int8_program, "_calibrate", lambda *_: 1 / 0)
    for name in ("exported", "evaluation"):
        (tmp_path / "package" / name).mkdir(parents=True)
    verdict = int8_program.add(checkpoint, tmp_path, tmp_path / "package", 0.02, LIMITS)
    assert verdict == {"accepted": False, "message": "it cannot be made: division by zero"}
    assert json.loads((tmp_path / "package" / "evaluation" / "int8.json").read_text()) == verdict
    assert not list((tmp_path / "package" / "exported").iterdir())


@pytest.mark.slow
def test_a_damaged_program_is_refused(tmp_path):
    """A program of which a byte was changed is not used."""
    make(tmp_path)
    file = tmp_path / "exported" / INT8_ONNX
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=INT8_ONNX):
        ExportedClassifier(tmp_path / "exported", "int8")


@pytest.mark.slow
def test_predict_and_export_by_the_engine(version, monkeypatch, capsys, tmp_path):
    """`predict --engine int8` gives the program's probabilities, `export --format int8` its files with a README whose code runs,
    `--format html` a page with it; a checkpoint has no such program, which is refused with what makes one."""
    place, parent, _ = version
    picked = Version("3", "baseline", "0" * 64)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(as_file(TEST[0]))
    checkpoint = str(place / "checkpoint")
    assert main(["predict", "photo.png", "--model", checkpoint, "--engine", "int8"]) == 2
    assert "register.quantize: int8" in capsys.readouterr().err
    monkeypatch.setattr(model_resolver, "_fetch", lambda _: ("darkroom", picked, place / "checkpoint"))
    rows = {}
    for engine in ("float32", "int8"):
        assert main(["predict", "photo.png", "--model", "3", "--engine", engine, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        rows[engine] = list(content["predictions"][0]["probabilities"].values())
    program = QuantizedClassifier(parent, place / "exported")
    assert rows["int8"] == pytest.approx(program.probabilities(TEST[:1])[0].tolist(), rel=1e-4)
    assert rows["float32"] == pytest.approx(parent.probabilities(TEST[:1])[0].tolist(), rel=1e-4)
    assert main(["export", "--model", "3", "--format", "int8", "--out", "out"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["README.md", INT8_DESCRIPTION, INT8_ONNX]
    monkeypatch.setattr(model_card, "_version", lambda _: None)
    monkeypatch.setattr(web_runtime, "load", lambda source=None: Runtime("export {}", b"wasm"))
    assert main(["export", "--model", "3", "--format", "html", "--out", "page"]) == 0
    page = Path("page/model.html").read_text(encoding="utf-8")
    packed = page.split('id="model">')[1].split("<")[0]
    assert zlib.decompress(base64.b64decode(packed)) == Path("out", INT8_ONNX).read_bytes()
    assert "8-bit integers" in page
    (tmp_path / "photo.png").rename(tmp_path / "out" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "out")
    code = Path("README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    capsys.readouterr()
    exec(code, {})
    assert "'a': " in capsys.readouterr().out


@pytest.mark.slow
def test_a_served_version_predicts_by_the_engine_of_the_request(version, tmp_path):
    """With the param `engine: int8` a served version has the program's probabilities and unknown images, else those in float32; an
    engine that it does not have is refused with the status 400."""
    place, parent, _ = version
    exported = shutil.copytree(place / "exported", tmp_path / "exported")
    export.export(parent, TEST[:2], exported)
    served = ExportedModel()
    served.load_context(SimpleNamespace(artifacts={"exported": str(exported)}))
    request = pd.DataFrame({"image": [as_file(image) for image in TEST[:3]]})
    program = QuantizedClassifier(parent, exported)
    for own, expected in [({}, parent), ({"engine": "float32"}, parent), ({"engine": "int8"}, program)]:
        rows, measured = served.predict(None, request, own), expected.measure(TEST[:3])
        values = [list(row.values()) for row in rows["probabilities"]]
        np.testing.assert_allclose(values, measured.probabilities, rtol=1e-4)
        assert rows["unknown"].tolist() == [expected.threshold.is_unknown(distance) for distance in measured.distances]
    (exported / INT8_DESCRIPTION).unlink()
    without = ExportedModel()
    without.load_context(SimpleNamespace(artifacts={"exported": str(exported)}))
    for engine in ("int8", "other"):
        with pytest.raises(MlflowException, match="quantize: int8") as error:
            without.predict(None, request, {"engine": engine})
        assert error.value.get_http_status_code() == 400


def test_the_alias_names_the_program(tmp_path, monkeypatch):
    """`--model int8` predicts by the program of 8-bit integers without an engine; a checkpoint folder of that name does not."""
    monkeypatch.chdir(tmp_path)
    expected = {"champion": "float32", "3": "float32", "models/x": "float32", "int8": "int8", "models:/darkroom@int8": "int8"}
    assert {name: model_resolver.default_engine(name) for name in expected} == expected
    Path("models/int8").mkdir(parents=True)
    Path("models/int8/model.json").touch()
    assert model_resolver.default_engine("models/int8") == "float32"


def test_an_unknown_engine_is_refused():
    """An engine that there is not is answered with the nearest one."""
    with pytest.raises(ParamsError, match="int8"):
        model_resolver.load("champion", "int")

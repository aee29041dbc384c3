"""Programs of 8-bit integers: what is quantised, with which ranges, and what a layer that stays float32 loses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from darkroom.inference import quantization
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import OnnxProgram
from darkroom.inference.quantization import Quantizer
from darkroom.models.probabilities import softmax
from tests.inference.test_export import architecture, write_checkpoint

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


def new_quantizer(place: Path, family: str = "squeezed") -> Quantizer:
    """Return the quantizer of an untrained network."""
    folder = write_checkpoint(place / "model", architecture(family))
    (place / "scratch").mkdir()
    return Quantizer(Classifier.load(folder), IMAGES, place / "scratch")


def quantised_weights(program: Path) -> dict[str, tuple[onnx.NodeProto, np.ndarray]]:
    """Return each layer with 8-bit weights, and these, by its name."""
    graph = onnx.load(program).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = {node.output[0]: values.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
    layers = {node.name: (node, sources.get(node.input[1])) for node in graph.node if node.op_type in quantization.LAYERS}
    return {name: (node, weights) for name, (node, weights) in layers.items() if weights is not None}


@pytest.mark.slow
def test_no_processor_predicts_something_else(tmp_path):
    """Weights have 7 bits, so that two products with 8-bit activations fit into 16 bits; those of depthwise convolutions, which are
    not summed in pairs, have 8."""
    quantizer = new_quantizer(tmp_path)
    quantizer.write(tmp_path / "program.onnx", [])
    layers = quantised_weights(tmp_path / "program.onnx")
    assert list(layers) == quantizer.layers
    depthwise = {name for name, (_, weights) in layers.items() if weights.ndim == 4 and weights.shape[1] == 1}
    for name, (_, weights) in layers.items():
        largest = np.abs(weights.astype(int)).max()
        assert largest > 100 if name in depthwise else 255 * 2 * largest < 2**15, name
    assert depthwise


@pytest.mark.slow
@pytest.mark.parametrize("family", ["compact", "SqueezeNet", "squeezed"])
def test_only_features_and_head_are_quantised(tmp_path, family):
    """Inputs and outputs are those of the float32 program, and normalisation, temperature, softmax and distance compute in float32:
    no quantised value enters them but the embedding and the logits."""
    quantizer = new_quantizer(tmp_path, family)
    quantizer.write(tmp_path / "program.onnx", [])
    ours, theirs = (onnx.load(file).graph for file in (tmp_path / "program.onnx", quantizer.float32))
    assert [value.name for value in (*ours.input, *ours.output)] == [value.name for value in (*theirs.input, *theirs.output)]
    integers = {node.output[0] for node in ours.node if node.op_type == "QuantizeLinear"}
    outside = [node for node in ours.node if not node.name.startswith(quantization.QUANTIZED) and node.op_type not in (
        "QuantizeLinear", "DequantizeLinear")]  # fmt: skip
    assert not any(name in integers for node in outside for name in node.input)
    outputs = [OnnxProgram(file)(IMAGES) for file in (quantizer.float32, tmp_path / "program.onnx")]
    assert quantization.divergence(*(softmax(part.logits) for part in outputs)) < 0.02
    assert outputs[0].distances.shape == outputs[1].distances.shape == (8,)


@pytest.mark.slow
def test_rows_are_normalised_at_once(tmp_path, monkeypatch):
    """The program normalises the 3 S numbers of a row together, not three at a time, and has the logits and distances, to the bit,
    of one that subtracts and divides by channel."""
    outputs = {}
    for name in ("rows", "channels"):
        place = tmp_path / name
        place.mkdir()
        new_quantizer(place).write(place / "program.onnx", [])
        graph = onnx.load(place / "program.onnx").graph
        widths = {item.name: item.dims[-1] for item in graph.initializer if item.dims}
        steps = [node for node in graph.node if node.name.startswith(quantization.NORMALIZE) and node.op_type in ("Sub", "Div")]
        assert [widths[node.input[1]] for node in steps] == [{"rows": 3 * IMAGES.shape[2], "channels": 1}[name]] * 2
        outputs[name] = OnnxProgram(place / "program.onnx")(IMAGES)
        monkeypatch.setattr(quantization, "_normalise_rows", lambda *_: None)
    for ours, theirs in zip(outputs["rows"], outputs["channels"], strict=True):
        assert np.array_equal(ours, theirs)


def logits(program: Path, level: str) -> np.ndarray:
    """Return the logits (N, classes) by ONNX Runtime at a level of its own optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(str(program), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": IMAGES})[0]


@pytest.mark.slow
def test_a_layer_that_stays_float32_runs_in_float32(tmp_path):
    """ONNX Runtime's optimisations do not round the weights of a layer that stays float32, also between quantised ones."""
    quantizer = new_quantizer(tmp_path)
    kept = quantizer.layers[1::2]
    quantizer.write(tmp_path / "program.onnx", kept)
    assert set(quantised_weights(tmp_path / "program.onnx")) == set(quantizer.layers) - set(kept)
    expected = logits(tmp_path / "program.onnx", "ORT_DISABLE_ALL")
    np.testing.assert_allclose(logits(tmp_path / "program.onnx", "ORT_ENABLE_BASIC"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_layers_that_lose_the_most_stay_float32_first(tmp_path):
    """The programs to try have none, an eighth and a quarter of the layers in float32, each those of the one before."""
    quantizer = new_quantizer(tmp_path)
    few, more = map(set, quantizer.mixtures()[1:])
    assert quantizer.mixtures()[0] == []
    assert few < more
    assert len(more) == round(len(quantizer.layers) / 4)


@pytest.mark.slow
def test_a_program_has_the_temperature_that_it_is_given(tmp_path):
    """The logits are divided by the new temperature, the probabilities are their softmax, and the metadata have it."""
    quantizer = new_quantizer(tmp_path, "compact")
    quantizer.write(tmp_path / "program.onnx", [])
    before = OnnxProgram(tmp_path / "program.onnx")(IMAGES).logits
    quantization.calibrate(tmp_path / "program.onnx", 0.25, {"about": "a model", "temperature": 0.25})
    program = OnnxProgram(tmp_path / "program.onnx")
    np.testing.assert_allclose(program(IMAGES).logits, 4 * before, rtol=1e-5)
    assert program.session.get_modelmeta().custom_metadata_map["temperature"] == "0.25"
    (probabilities,) = program.session.run(["probabilities"], {"images": IMAGES})
    np.testing.assert_allclose(probabilities, softmax(4 * before), atol=1e-5)


def test_calibration_images_are_of_all_classes():
    """At most CALIBRATION_IMAGES are drawn, of each class its share, the same ones each time."""
    labels = np.repeat([2, 0, 1], [900, 90, 10])
    images = np.arange(1000)[:, None, None, None].astype(np.uint8) * np.ones((1, 1, 1, 3), np.uint8)
    drawn = quantization.calibration_images(images, labels)
    assert len(drawn) == quantization.CALIBRATION_IMAGES
    assert (drawn == quantization.calibration_images(images, labels)).all()
    assert len(quantization.calibration_images(images[:5], labels[:5])) == 5


@pytest.mark.slow
def test_quantisation_costs_no_start_up():
    """The stage register, predict and export are imported without ONNX Runtime's quantisation."""
    code = (
        "import sys, darkroom.stages.register, darkroom.commands.predict, darkroom.commands.export, darkroom.stages.int8_program\n"
        "assert not [name for name in sys.modules if name.startswith('onnxruntime.quantization')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

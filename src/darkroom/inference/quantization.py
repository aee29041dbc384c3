"""Programs of 8-bit integers: static quantisation by ONNX Runtime (Jacob et al. 2018), with mixed precision where it is needed.

The layers of the features and of the head are quantised: activations to 8 bits, by their range on calibration images, weights to
7 bits with a scale for each output channel. With 8 bits the sum of two products would saturate on processors without VNNI, which
would predict something else; with 7 a program gives the same everywhere. Layers that convolve each channel by itself have 8 bits:
their products are not summed in pairs. Normalisation, temperature, softmax and the distance of abstention stay float32, and so do,
where that is asked for, some of the layers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core.errors import WeightsError
from darkroom.core.lazy import lazy_imports
from darkroom.inference.classifier import Classifier
from darkroom.inference.export import CalibratedNetwork, as_text
from darkroom.models import engine

with lazy_imports():  # none of them where nothing is quantised
    import onnx
    from onnx import numpy_helper
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

QUANTIZED = ("/features/", "/head/")  # the parts of `Network` whose nodes are quantised, by the names of the exported nodes
NORMALIZE = "/normalize/"  # begins the names of the nodes that normalise
LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Clip", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Gelu")
FLOAT_SHARES = (0, 1 / 8, 1 / 4)  # of the layers, of the programs to try
EIGHT_BITS = {"axis": 0, "symmetric": True, "reduce_range": False}  # of a weight, by output channel
STEPS = 63  # of a weight of 7 bits, on each side of 0
CALIBRATION_IMAGES, CALIBRATION_BATCH = 128, 8


class Quantizer:
    """Makes programs of 8-bit integers of a classifier, any number of them, calibrated on images (N, S, S, 3) uint8.

    `float32` is its program in float32, `layers` the names of the layers that can be quantised, in their order. `scratch` is an
    empty folder for its files. Raises WeightsError where the network has no such layer.
    """

    def __init__(self, classifier: Classifier, images: np.ndarray, scratch: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        network = CalibratedNetwork(classifier)
        example = np.ascontiguousarray(np.resize(images[:2], (2, *images.shape[1:])))
        self.images, self.float32, self._prepared = images, scratch / "float32.onnx", scratch / "prepared.onnx"
        self.float32.write_bytes(engine.export_onnx(network, example, "images", network.output_names))
        with _quiet():
            shape_inference.quant_pre_process(str(self.float32), str(self._prepared), skip_symbolic_shape=True)
        _normalise_rows(self._prepared, images.shape[2])
        graph = onnx.load(self._prepared).graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = [node for node in graph.node if node.op_type != "Constant"]
        inner = [node for node in self._nodes if node.name.startswith(QUANTIZED) and node.op_type in LAYERS]
        self._layers = {node.name: node for node in inner if node.input[1] in weights}
        if not self._layers:
            raise WeightsError(
                f"{classifier.checkpoint.name} has no layer that can be quantised", "set `register.quantize: none` in params.yaml"
            )
        convolutions = [node for node in self._layers.values() if node.op_type == "Conv"]
        self._depthwise_weights = [node.input[1] for node in convolutions if weights[node.input[1]].dims[1] == 1]
        errors = {name: self._rounding_error(node, weights) for name, node in self._layers.items()}
        self._by_error = sorted(errors, key=lambda name: -errors[name])

    @property
    def layers(self) -> list[str]:
        return list(self._layers)

    def mixtures(self) -> list[list[str]]:
        """Return the layers that stay float32 in each program to try, from the smallest program on: none of them, an eighth, a
        quarter; first those whose weights lose the most."""
        chosen = [set(self._by_error[: round(share * len(self._layers))]) for share in FLOAT_SHARES]
        return [[name for name in self._layers if name in names] for names in chosen]

    def write(self, target: Path, float_layers: list[str]) -> None:
        """Write the program with these layers in float32, which is that of the classifier in all else."""
        kept = {name for layer in float_layers for name in (layer, *self._activations(layer))}
        kept |= {node.name for node in self._nodes if not node.name.startswith(QUANTIZED)}
        with _quiet():
            quantization.quantize_static(
                str(self._prepared), str(target), _calibration(self.images), quant_format=quantization.QuantFormat.QDQ,
                per_channel=True, reduce_range=True, activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8, nodes_to_exclude=sorted(kept),
                extra_options={"TensorQuantOverrides": {key: [dict(EIGHT_BITS)] for key in self._depthwise_weights}},
            )  # fmt: skip
        if float_layers:
            _guard(target, float_layers)

    def _rounding_error(self, node: Any, weights: Mapping[str, Any]) -> float:
        """Return the share of the squares of a layer's weights that rounding them by output channel loses."""
        values = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
        has_rows = node.op_type == "Conv" or any(item.name == "transB" and item.i for item in node.attribute)
        rows = values.reshape(len(values), -1) if has_rows else np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1)
        steps = 2 * STEPS + 1 if node.input[1] in self._depthwise_weights else STEPS
        scale = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-30) / steps
        return float(np.square(rows - np.round(rows / scale) * scale).sum() / max(float(np.square(rows).sum()), 1e-30))

    def _activations(self, layer: str) -> list[str]:
        """Return the activation functions of a layer's output: quantised before them, it would have the larger range."""
        output = self._layers[layer].output[0]
        return [node.name for node in self._nodes if output in node.input and node.op_type in ACTIVATIONS]


def _normalise_rows(program: Path, side: int) -> None:
    """Let the program normalise each row of an image as `3 * side` numbers, before it moves the channels to the front.

    Every number is the same. ONNX Runtime moves the channels of a quantised network last again, and would subtract and divide three
    numbers at a time: a fifth to a quarter of the time of MobileNetV2 at 160 pixels.
    """
    model = onnx.load(program)
    graph, weights = model.graph, {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    parts = {node.op_type: node for node in graph.node if node.name.startswith(NORMALIZE)}
    if not {"Transpose", "Cast", "Sub", "Div"} <= parts.keys():
        return  # another order of operations, which is slower and predicts the same
    constants = {"rows": np.array([0, 0, -1]), "images": np.array([0, 0, -1, 3])}
    constants |= {kind: np.tile(weights[parts[kind].input[1]].reshape(3), side) for kind in ("Sub", "Div")}
    names = {kind: f"{NORMALIZE}{kind}/constant" for kind in constants}
    for old in [item for item in graph.initializer if item.name.startswith(NORMALIZE)]:
        graph.initializer.remove(old)
    graph.initializer.extend(numpy_helper.from_array(value, names[kind]) for kind, value in constants.items())
    (source,), (result,) = parts["Transpose"].input[:1], parts["Div"].output
    steps = [("Reshape", "rows"), ("Cast", ""), ("Sub", "Sub"), ("Div", "Div"), ("Reshape", "images"), ("Transpose", "")]
    nodes = []
    for number, (kind, constant) in enumerate(steps, 1):
        target = result if number == len(steps) else f"{NORMALIZE}{number}"
        inputs = [source, *([names[constant]] if constant else [])]
        nodes.append(onnx.helper.make_node(kind, inputs, [target], name=f"{NORMALIZE}{kind}/{number}"))
        if kind in ("Cast", "Transpose"):
            nodes[-1].attribute.extend(parts[kind].attribute)
        source = target
    others = [node for node in graph.node if not node.name.startswith(NORMALIZE)]
    del graph.node[:]
    graph.node.extend([*nodes, *others])
    onnx.save(model, program)


def _guard(program: Path, float_layers: list[str]) -> None:
    """Put a Clip to the range of their quantised inputs, which changes nothing, before the layers that stay float32.

    Without it ONNX Runtime rounds the weights of a layer whose input comes straight from a DequantizeLinear to 8 bits by itself,
    with one scale for all channels, which is worse than what is avoided.
    """
    model = onnx.load(program)
    graph, constants = model.graph, {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sources = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes = []
    for node in graph.node:
        source = sources.get(node.input[0]) if node.name in float_layers else None
        if source is not None:
            scale, zero = (float(constants[name]) for name in source.input[1:])
            limits = -zero * scale, (255 - zero) * scale
            names = [f"{node.name}/{part}" for part in ("low", "high", "input")]
            for value, name in zip(limits, names, strict=False):
                graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
            nodes.append(onnx.helper.make_node("Clip", [node.input[0], *names[:2]], names[2:], name=f"{node.name}/Clip"))
            node.input[0] = names[2]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, program)


def calibrate(program: Path, temperature: float, metadata: Mapping[str, Any]) -> None:
    """Give a program another temperature, by which its logits are divided, and its metadata."""
    model = onnx.load(program)
    divide = next(node for node in model.graph.node if "logits" in node.output)
    value = numpy_helper.from_array(np.array(temperature, np.float32), "temperature")
    for old in [item for item in model.graph.initializer if item.name == divide.input[1]]:
        model.graph.initializer.remove(old)
    divide.input[1] = value.name
    model.graph.initializer.append(value)
    onnx.helper.set_model_props(model, as_text(metadata))
    model.doc_string = metadata["about"]
    onnx.save(model, program)


def calibration_images(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return at most CALIBRATION_IMAGES of the training images (N, S, S, 3) uint8, evenly drawn in the order of their labels."""
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), CALIBRATION_IMAGES)).round().astype(int)
    return np.ascontiguousarray(images[np.sort(order[places])])


def divergence(probabilities: np.ndarray, others: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence in nats of probabilities (N, C) from others of the same images."""
    first, second = (np.clip(values, 1e-12, 1) for values in (probabilities, others))
    return float((first * np.log(first / second)).sum(1).mean())


def _calibration(images: np.ndarray) -> Any:
    """Return images as ONNX Runtime reads them for calibration."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(images), CALIBRATION_BATCH)
            self.batches = iter([images[start : start + CALIBRATION_BATCH] for start in starts])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what ONNX Runtime's quantisation logs below errors: its advice is for its own tools."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

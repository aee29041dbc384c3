"""What 8-bit integers would gain in the stage `embed`: the speed of frozen networks, and heads trained on their embeddings.

    python benchmarks/int8_frozen.py [FOLDER …] [--weights WEIGHTS] [--networks mobilenet_v2:160 vgg16:128] [--splits 3]

speed     milliseconds of processor time an image in float32 and in 8-bit integers, on one thread in the batches of `embed`, in
          turns; weights are random. `make` are the seconds that the program takes, `pays after` the images until it has gained them
accuracy  for each folder, a frozen MobileNetV2 or another --backbone with the weights of WEIGHTS: the cosine of its embeddings in
          8-bit integers with those in float32; the test accuracy of a head trained on either, in front of the float32 network, and
          on how many images they agree. Training images are two views of policy `standard`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8 import make_network
from measuring import median, report
from prediction_sets import SIZE, read_folder, split
from torch import nn

from darkroom.api.heads import train_head
from darkroom.augmentation.views import ViewGenerator
from darkroom.inference import quantization
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import OnnxProgram
from darkroom.inference.quantization import Quantizer
from darkroom.models import engine, factory, weights
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint

NETWORKS = (
    "mobilenet_v2:160", "squeezenet1_1:160", "efficientnet_b0:160", "mobilenet_v3_small:32", "convnext_tiny:160", "resnet18:160",
    "resnet50:160", "vgg16:128",
)  # fmt: skip
VIEWS, IMAGES, TURNS = 2, 16, 5
Program = Callable[[np.ndarray], np.ndarray]


def programs(network: Network, name: str, images: np.ndarray, scratch: Path) -> tuple[Program, Program]:
    """Return a network's programs in float32 and in 8-bit integers, calibrated on images, its head in float32 in both."""
    preprocessing = Preprocessing(images.shape[1], "crop", (0, 0, 0), *weights.normalization(name, "imagenet"))
    classes = tuple(map(str, range(network.head.out_features)))
    classifier = Classifier(network, Checkpoint(name, network.features.spec, preprocessing, classes, {}, {}, 1.0))
    quantizer = Quantizer(classifier, images, scratch)
    quantizer.write(scratch / "int8.onnx", [layer for layer in quantizer.layers if layer.startswith("/head/")])

    def outputs(program: OnnxProgram, images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), engine.Onnx.batch)
        return np.concatenate([program(np.ascontiguousarray(images[start : start + engine.Onnx.batch])).logits for start in starts])

    first, second = (OnnxProgram(file, threads=1) for file in (quantizer.float32, scratch / "int8.onnx"))
    return lambda images: outputs(first, images), lambda images: outputs(second, images)


def speed(name: str, side: int) -> Mapping[str, Any]:
    """Return the row of a network with random weights, for images of a size."""
    backbone = factory.build_features(factory.backbone_spec(name, side, "pooled", Path("data/weights")))
    shown = Preprocessing(side, "crop", (0, 0, 0), *weights.normalization(name, "imagenet"))
    images = np.random.default_rng(0).integers(0, 256, (quantization.CALIBRATION_IMAGES, side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.process_time()
        both = programs(Network(backbone, shown, 2).eval(), name, images, Path(scratch))
        seconds = time.process_time() - started
        times: list[list[float]] = [[], []]
        for _ in range(TURNS + 1):
            for program, into in zip(both, times, strict=True):
                started = time.thread_time()
                program(images[:IMAGES])
                into.append(1000 * (time.thread_time() - started) / IMAGES)
    first, second = (min(values[1:]) for values in times)
    ratio = median([a / b for a, b in zip(times[0][1:], times[1][1:], strict=True)])
    pays = round(1000 * seconds / (first - second)) if first > second else "never"
    return {
        "network": f"{name}, {side} px", "float32 ms": first, "int8 ms": second, "times": ratio, "make s": seconds,
        "pays after": pays,
    }  # fmt: skip


def accuracy(folder: Path, backbone: str, weights_folder: Path, splits: int) -> Mapping[str, Any]:
    """Return the row of a folder and a backbone."""
    images, y = read_folder(folder)
    network = make_network(backbone, weights_folder, 2)
    network.head = nn.Linear(network.features.dim, network.features.dim)  # its outputs are the embeddings
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(network.features.dim))
        network.head.bias.zero_()
    viewer = ViewGenerator("standard", SIZE, 0)
    views = [np.stack([viewer.views(image, range(k, k + 1))[0] for image in images]) for k in range(VIEWS)]
    with tempfile.TemporaryDirectory() as scratch:
        both = programs(network, backbone, quantization.calibration_images(views[0], y), Path(scratch))
        exact, rounded = (np.stack([program(part) for part in [*views, images]]) for program in both)
    lengths = np.linalg.norm(exact, axis=2) * np.linalg.norm(rounded, axis=2)
    cosine = float(((exact * rounded).sum(2) / np.maximum(lengths, 1e-30)).mean())
    right, agree = [], []
    for seed in range(splits):
        train, val, test = split(y, seed)
        predicted = []
        for embeddings in (exact, rounded):
            with redirect_stdout(StringIO()):
                head = train_head(embeddings[:-1, train], y[train], (embeddings[-1, val], y[val]), seed=seed, threads=1, lr=0.001)
            predicted.append(head.predict(exact[-1, test]))
        right.append([float((labels == y[test]).mean()) for labels in predicted])
        agree.append(float((predicted[0] == predicted[1]).mean()))
    means = np.mean(right, axis=0)
    return {
        "folder": folder.name, "backbone": backbone, "test": splits * len(test), "cosine": cosine, "float32": means[0],
        "int8": means[1], "agree": float(np.mean(agree)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--weights", type=Path, help="a folder of weights, for `accuracy`")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--networks", nargs="*", default=NETWORKS, help="NAME:SIZE, for `speed`")
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    if options.folders and not options.weights:
        parser.error("--weights is needed with a folder")
    torch.set_num_threads(1)
    if options.networks:
        report("int8-frozen-speed", [speed(name, int(side)) for name, side in (item.split(":") for item in options.networks)])
    if options.folders:
        report("int8-frozen", [accuracy(folder, options.backbone, options.weights, options.splits) for folder in options.folders])


if __name__ == "__main__":
    main()

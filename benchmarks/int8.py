"""What a program of 8-bit integers loses and gains: accuracy on the same images, size and speed, by backbone and folder.

    python benchmarks/int8.py FOLDER [FOLDER …] --weights WEIGHTS [--backbones mobilenet_v2 squeezenet1_1] [--splits 3]

Each split trains a head on the frozen backbone with 70% of a folder's images, as the stage `transfer` does without augmentation,
and quantises the network as the stage `register` does: the ranges of 128 training images, calibration by 10%, figures on 20%.

difference  accuracy of int8 less that of float32 on the test images of all splits, and its interval: a bootstrap over images, of
            which one may be in the test splits of several seeds
nats        mean divergence of the probabilities on validation, by which the number of float layers is chosen (`float`, of all)
MB, times   size of both programs, and the ratio of their speeds for one image alone and in batches, the median of the splits;
            by the processor time of one thread, which other programs hardly change
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from measuring import ROOT, median, report
from prediction_sets import SIZE, read_folder, split

from darkroom.api.heads import train_head
from darkroom.config import params
from darkroom.evaluation import significance
from darkroom.inference import quantization
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import ExportedClassifier
from darkroom.models import weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import BackboneSpec
from darkroom.monitoring.reference import HeldOut
from darkroom.stages import int8_program
from darkroom.stages.int8_program import Verdict

BACKBONES = ("mobilenet_v2", "squeezenet1_1")
LENIENT = {"max_drop": 1.0, "max_class_drop": 1.0, "max_calibration_error": 1.0}  # so that every program is measured


def make_network(backbone: str, folder: Path, classes: int) -> Network:
    """Return the frozen backbone with the weights of a folder, and an untrained head."""
    features = TorchvisionBackbone(BackboneSpec(backbone, SIZE, "pooled"), 0)
    file = weight_files.find(folder, backbone)
    weights.fill(features, weights.read(file), str(file))
    preprocessing = Preprocessing(SIZE, "crop", (0, 0, 0), *weights.normalization(backbone, "imagenet"))
    return Network(features, preprocessing, classes).eval()


def trained(network: Network, backbone: str, x: np.ndarray, y: np.ndarray, parts: tuple[np.ndarray, ...], seed: int) -> Classifier:
    """Return a classifier whose head is trained on the embeddings `x` (N, D)."""
    train, val, _ = parts
    with redirect_stdout(StringIO()):
        head = train_head(x[train], y[train], (x[val], y[val]), seed=seed, threads=2)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.coef_))
        network.head.bias.copy_(torch.from_numpy(head.intercept_))
    classes = tuple(str(number) for number in range(int(y.max()) + 1))
    spec = BackboneSpec(backbone, SIZE, "pooled")
    preprocessing = Preprocessing(SIZE, "crop", (0, 0, 0), *weights.normalization(backbone, "imagenet"))
    return Classifier(network, Checkpoint(backbone, spec, preprocessing, classes, {}, {}, head.temperature))


def quantised(
    parent: Classifier, images: np.ndarray, y: np.ndarray, parts: tuple[np.ndarray, ...]
) -> tuple[Verdict, np.ndarray, np.ndarray]:
    """Return the verdict on the program of a classifier, and what both predict for the test images, (N,) each."""
    train, val, test = parts
    held_out = HeldOut([images[val], images[test]], [y[val], y[test]], [list(map(str, val)), list(map(str, test))])
    limits = params.read(ROOT / "params.yaml").register_.model_copy(update=LENIENT)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        folder.mkdir()
        verdict = int8_program.make(parent, quantization.calibration_images(images[train], y[train]), held_out, folder, limits)
        predicted = ExportedClassifier(folder, "int8").measure(images[test]).probabilities.argmax(1)
    return verdict, parent.probabilities(images[test]).argmax(1), predicted


def run(folder: Path, backbone: str, weights_folder: Path, splits: int) -> Mapping[str, Any]:
    """Return the row of a folder and a backbone."""
    images, y = read_folder(folder)
    network = make_network(backbone, weights_folder, int(y.max()) + 1)
    with torch.inference_mode():
        starts = range(0, len(images), 32)
        x = np.concatenate([network.embed(torch.from_numpy(images[start : start + 32])).numpy() for start in starts])
    verdicts, tests, first, second = [], [], [], []
    for seed in range(splits):
        parts = split(y, seed)
        verdict, one, other = quantised(trained(network, backbone, x, y, parts, seed), images, y, parts)
        verdicts.append(verdict)
        tests.append(parts[2])
        first.append(one)
        second.append(other)
    rows = np.concatenate(tests)
    outputs = map(np.concatenate, (first, second))
    interval = significance.bootstrap(y[rows], *outputs, int(y.max()) + 1, rows)["accuracy"]
    last = verdicts[-1]
    return {
        "data": folder.name, "backbone": backbone, "test": len(rows), "float32": fmean(v.float32.accuracy for v in verdicts),
        "difference": interval.difference, "low": interval.low, "high": interval.high,
        "nats": max(v.divergence for v in verdicts), "float": max(len(v.float_layers) for v in verdicts), "of": last.layers,
        "MB float32": last.float32.megabytes, "MB int8": max(v.int8.megabytes for v in verdicts),
        "times, one": median([v.speedup.single for v in verdicts]), "times, batches": median([v.speedup.batch for v in verdicts]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--splits", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for folder in args.folders:
        for backbone in args.backbones:
            rows.append(run(folder, backbone, args.weights, args.splits))
            print(rows[-1], flush=True)
    report("int8", rows)


if __name__ == "__main__":
    main()

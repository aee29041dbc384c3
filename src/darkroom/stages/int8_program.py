"""The program of 8-bit integers of a version: made, calibrated on validation, and judged against its float32 parent on test."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config.params import Register
from darkroom.core import atomic, checksums, json_files, machine_limits
from darkroom.core.errors import WeightsError
from darkroom.data import arrays
from darkroom.evaluation import cost, gate
from darkroom.evaluation.cost import Speedup
from darkroom.evaluation.gate import Candidate, Check, Truth
from darkroom.inference import export, quantization
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import FILES, INT8_DESCRIPTION, INT8_ONNX, ExportedClassifier, OnnxProgram
from darkroom.inference.quantization import Quantizer
from darkroom.models.abstention import NO_DISTANCES, CalibrationDistances
from darkroom.models.prediction_sets import ConformalScores
from darkroom.models.probabilities import softmax
from darkroom.monitoring import reference
from darkroom.monitoring.reference import HeldOut
from darkroom.tracking import entities
from darkroom.training import temperature

MAX_DIVERGENCE = 0.05  # mean nats on validation, above which more layers stay float32
BATCH = cost.BATCH
Outputs = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Figures:
    """Test accuracy, size in MB, milliseconds for one image alone, and images per second in batches, of a program."""

    accuracy: float
    megabytes: float
    ms_per_image: float
    images_per_second: float


@dataclass(frozen=True)
class Verdict:
    """The block `int8` of promotion.json: whether the program is part of the version, why, and its figures."""

    accepted: bool
    message: str
    layers: int
    float_layers: list[str]  # those that stay float32
    divergence: float  # mean nats of its probabilities on validation from those in float32
    temperature: float
    float32: Figures
    int8: Figures
    speedup: Speedup  # of int8, by the processor time of one thread
    busy: float  # cores that other programs used while the times of `float32` and `int8` were measured
    checks: list[Check]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def add(checkpoint: Path, ingested: Path, package: Path, refuse: float, limits: Register) -> Mapping[str, Any]:
    """Add the program of 8-bit integers to a package's exported programs, unless it is refused, and its verdict to the evaluation;
    return the verdict. A network that cannot be quantised is refused too, with the reason alone."""
    parent = Classifier.load(checkpoint)
    if parent.threshold:
        parent.refuse(refuse)
    held_out = reference.load_held_out(ingested)
    train = quantization.calibration_images(*arrays.load_split(ingested / "train"))
    folder = package / entities.EXPORTED
    try:
        verdict = make(parent, train, held_out, folder, limits).as_dict()
    except Exception as error:  # exporters and ONNX Runtime raise errors of every kind
        machine_limits.check(error)  # a full disk says nothing about the network
        remove(folder)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        verdict = {"accepted": False, "message": f"it cannot be made: {reason}"}
    atomic.write_json(package / entities.EVALUATION / entities.INT8_VERDICT, verdict)
    return verdict


def make(parent: Classifier, train: np.ndarray, held_out: HeldOut, folder: Path, limits: Register) -> Verdict:
    """Write `model.int8.onnx` and `model.int8.json` into a folder, unless a check fails; return the verdict.

    `train` (N, S, S, 3) uint8 calibrate the ranges. Validation decides how many layers stay float32, and calibrates temperature,
    prediction sets and abstention anew; test can only refuse.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        quantizer = Quantizer(parent, train, Path(scratch))
        float_layers, distance = _choose(parent, quantizer, held_out.images[0], folder / INT8_ONNX)
        _calibrate(parent, folder, held_out)
        verdict = _judge(parent, quantizer, float_layers, distance, folder, held_out, limits)
    if not verdict.accepted:
        remove(folder)
    return verdict


def remove(folder: Path) -> None:
    """Delete the program's files."""
    for file in (INT8_ONNX, INT8_DESCRIPTION):
        (folder / file).unlink(missing_ok=True)


def _choose(parent: Classifier, quantizer: Quantizer, val: np.ndarray, target: Path) -> tuple[list[str], float]:
    """Write the first program whose probabilities on validation are near enough to the parent's, else the nearest one; return
    its layers in float32, and its divergence."""
    expected = parent.probabilities(val)
    best: tuple[list[str], float] | None = None
    candidate = target.with_suffix(".candidate")
    for layers in quantizer.mixtures():
        quantizer.write(candidate, layers)
        error = quantization.divergence(expected, softmax(_outputs(OnnxProgram(candidate), val)[0]))
        if best is None or error < best[1] or math.isnan(best[1]):
            best = layers, error
            shutil.move(candidate, target)
        if error <= MAX_DIVERGENCE:
            break
    candidate.unlink(missing_ok=True)
    assert best is not None
    if not math.isfinite(best[1]):
        raise WeightsError(f"{parent.checkpoint.name} outputs NaN or infinity in 8-bit integers", "set `register.quantize: none`")
    return best


def _calibrate(parent: Classifier, folder: Path, held_out: HeldOut) -> None:
    """Fit temperature, prediction sets and abstention of the program on validation, as training does, and describe it."""
    labels, own = held_out.labels[0], parent.checkpoint
    logits, distances = _outputs(OnnxProgram(folder / INT8_ONNX), held_out.images[0])
    logits = logits * np.float32(own.temperature)  # those before the temperature
    fitted = temperature.fit(logits, labels)
    scores = ConformalScores.of(softmax(logits, fitted), labels)
    abstention = NO_DISTANCES if distances is None else CalibrationDistances.of(distances)
    twin = Classifier(parent.network, replace(own, temperature=fitted, conformal=scores, abstention=abstention))
    twin.threshold = abstention.default(parent.threshold.refuse) if parent.threshold else None
    metadata = export.describe(twin, f"{own.name}, int8")
    quantization.calibrate(folder / INT8_ONNX, fitted, metadata)
    own_keys = {
        FILES: {INT8_ONNX: checksums.of_file(folder / INT8_ONNX)}, "conformal": asdict(scores), "distances": asdict(abstention),
    }  # fmt: skip
    json_files.write_sealed(folder / INT8_DESCRIPTION, {**metadata, **own_keys})


def _judge(
    parent: Classifier, quantizer: Quantizer, float_layers: list[str], distance: float, folder: Path, held_out: HeldOut,
    limits: Register,
) -> Verdict:  # fmt: skip
    program = ExportedClassifier(folder, "int8")
    val, test = held_out.images
    files = (quantizer.float32, folder / INT8_ONNX)
    first, second = (OnnxProgram(file, threads=1) for file in files)
    alone = zip(files, (first, second), strict=True)
    speeds = [cost.measure(OnnxProgram(file), test[:BATCH], alone=run) for file, run in alone]
    speedup = cost.compare(first, second, test[:BATCH])
    candidates = [
        Candidate(name, measure(val), measure(test), 1000 / speed.images_per_second, file.stat().st_size / 1e6)
        for name, measure, speed, file in zip(
            ("float32", "int8"), (parent.probabilities, lambda images: program.measure(images).probabilities), speeds, files,
            strict=True,
        )
    ]  # fmt: skip
    groups = [np.array(names) for names in held_out.groups]
    fresh = [np.ones(len(labels), bool) for labels in held_out.labels]
    truth = Truth(parent.classes, *held_out.labels, *fresh, *groups)
    checks = gate.against_parent(candidates[1], candidates[0], truth, limits)
    figures = [
        Figures(float((item.test.argmax(1) == truth.test).mean()), round(item.megabytes, 3), speed.ms_p50, speed.images_per_second)
        for item, speed in zip(candidates, speeds, strict=True)
    ]
    busy = max(speed.busy for speed in speeds)
    failed = [check.message for check in checks if not check.passed]
    counts = len(quantizer.layers), float_layers
    message = f"it is refused: {'; '.join(failed)}" if failed else _describe(figures[0], figures[1], counts, speedup)
    own = program.description.temperature
    return Verdict(not failed, message, *counts, distance, own, figures[0], figures[1], speedup, busy, checks)


def _describe(float32: Figures, int8: Figures, layers: tuple[int, list[str]], speedup: Speedup) -> str:
    """Return a sentence about an accepted program."""
    text = (
        f"test accuracy {int8.accuracy:.4f} for {float32.accuracy:.4f}, {int8.megabytes:.3g} MB for {float32.megabytes:.3g}, "
        f"on one thread {speedup.single:.2g} times as fast for one image and {speedup.batch:.2g} times in batches"
    )
    return f"{text}; {len(layers[1])} of {layers[0]} layers stay float32" if layers[1] else text


def _outputs(program: OnnxProgram, images: np.ndarray) -> Outputs:
    """Return logits (N, classes), divided by the temperature, and distances (N,) where the program has them."""
    parts = [program(np.ascontiguousarray(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
    distances = [part.distances for part in parts if part.distances is not None]
    return np.concatenate([part.logits for part in parts]), np.concatenate(distances) if distances else None

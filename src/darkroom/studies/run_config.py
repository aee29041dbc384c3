"""The configuration of a run, its result, and means of results over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from darkroom.training.batches import batches

NAMED_WEIGHTS = ("imagenet", "package")  # sources of weights that are no folder


@dataclass(frozen=True)
class RunConfig:
    """One network to train.

    Runs of one comparison are compared; those with the same label differ only in their seed. The seed draws
    the weights, the order of the images and their views. For one seed, all labels have the same order.
    """

    comparison: str
    label: str
    seed: int
    architecture: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    scheme: str = ""  # of models/init.py; empty: the initialisation of the architecture
    steps: int = 1
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05  # 0: found by a range test (learning_rate.py)
    weight_decay: float = 0.0
    warmup: int = 0  # steps
    eval_points: int = 4  # evaluations, evenly spread over the steps, after the one before the first step
    schedule: str = "cosine"  # of learning_rate.py
    images: int = 0  # the first N training images, which are in random order; 0: all
    image_size: int = 0  # pixels a side to which images are resized; 0: unchanged
    policy: str = ""  # of augmentation/policies.py
    views: int = 0  # per image: epoch e trains on view e mod `views`; 0: new views in each epoch
    sample: str = ""  # the name of the images to train on; empty: the study's own
    weights: str = ""  # initial weights of a library's network: imagenet (downloaded), package, or a folder of files
    pretraining: RunConfig | None = None  # the run whose last weights, without the head, are the initial ones
    trained_blocks: int | None = None  # train the head and the last N blocks; None: the whole network
    cache_features: bool = False  # run the frozen part over every image once, before the first step
    tta_modes: tuple[str, ...] = ()  # of inference/tta.py, for predictions after the last step

    def key(self) -> str:
        """Return all fields as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def training_key(self) -> str:
        """Return all that decides the result of the run: everything but its names."""
        return replace(self, comparison="", label="").key()

    def stack_key(self) -> str:
        """Return what the runs of a stack share: everything but labels and initial weights."""
        return replace(self, label="", scheme="").key()


@dataclass(frozen=True)
class CurvePoint:
    """Loss and accuracy after a number of steps; a loss that is not finite is None."""

    step: int
    train_loss: float | None
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float


@dataclass(frozen=True)
class LayerStats:
    """Activations and gradients of a layer after a number of steps (`probes.probe`)."""

    step: int
    layer: str
    std: float | None
    gradient: float | None
    dead: float | None
    saturated: float | None


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    `lr` is the learning rate of the training, `lr_test` the range test that found it, as (rate, loss).
    `probabilities` (N, classes) are predictions for the held-out images by TTA mode. Only `seconds` and
    `latency` (milliseconds for one image) change from run to run; `seconds` is divided equally among runs
    that were trained in one step.
    """

    config: RunConfig
    curve: list[CurvePoint] = field(repr=False)
    layers: list[LayerStats] = field(repr=False)
    parameters: int
    multiply_adds: int  # of one image, forward
    seconds: float
    latency: float = 0.0
    lr: float = 0.0
    lr_test: list[tuple[float, float]] = field(default_factory=list, repr=False)
    probabilities: dict[str, list[list[float]]] = field(default_factory=dict, repr=False)

    @property
    def accuracy(self) -> float:
        return self.curve[-1].val_accuracy


def weight_source(weights: str) -> tuple[str, Path]:
    """Return `RunConfig.weights` as params.yaml has it: `weights.source` and `weights.folder`."""
    return ("folder", Path(weights).expanduser()) if weights not in NAMED_WEIGHTS else (weights, Path("data/weights"))


def count_steps(images: int, batch_size: int, epochs: int) -> int:
    """Return the number of steps in a number of epochs."""
    return epochs * len(batches(images, batch_size))


def comparisons(results: Iterable[RunResult]) -> list[str]:
    """Return the names of the comparisons, in the order of the study."""
    return list(dict.fromkeys(result.config.comparison for result in results))


def by_label(results: Iterable[RunResult], comparison: str) -> dict[str, list[RunResult]]:
    """Return the results of a comparison by their labels, in the order of the study."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        if result.config.comparison == comparison:
            groups.setdefault(result.config.label, []).append(result)
    return groups


def mean_curve(results: Sequence[RunResult], key: str) -> list[tuple[float, float]]:
    """Return (step, value) means over seeds, without points at which the value of one seed is not finite."""
    points = []
    for rows in zip(*(result.curve for result in results), strict=True):
        values = [getattr(row, key) for row in rows]
        if None not in values:
            points.append((fmean(row.step for row in rows), fmean(values)))
    return points


def layer_means(results: Sequence[RunResult], key: str, last: bool = False) -> dict[str, float | None]:
    """Return the mean of a statistic over seeds, by layer, before the first step or after the last one."""
    values: dict[str, list[float | None]] = {}
    for result in results:
        step = result.layers[-1].step if last else 0
        for row in result.layers:
            if row.step == step:
                values.setdefault(row.layer, []).append(getattr(row, key))
    return {layer: None if None in numbers else fmean(numbers) for layer, numbers in values.items()}  # type: ignore[arg-type]

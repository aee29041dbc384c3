"""How long a run takes on this machine, from the work of its stages and a short measurement of its speed.

A stage takes a fixed time (DVC, imports), a time for each image, and the time of its networks: arithmetic, at a share of the
speed of a matrix product, and a time for each number that layers write and for each layer. The constants are fitted to measured
stages (docs/data.md, "Each stage").
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from darkroom.config.params import Params
from darkroom.core import platforms
from darkroom.preflight.network_costs import Cost, NetworkCost, of_architecture, of_backbone

LOW, HIGH = 0.7, 1.8  # of the estimate: the range that is shown
REFERENCE = 0.0058  # seconds of the loop in Python on the machine of the constants
FORWARD = (0.4, 0.06e-9)  # share of a matrix product's speed; seconds of one core for each number that layers write
TRAIN = (0.55, 6.0e-9)  # the share is above that of FORWARD, as convolutions on small maps leave out what meets padding alone
LAYER = (3.3e-6, 0.45e-3)  # seconds of a layer beyond that, of Python's pace: for an image, and for a training step
LARGE = 1.9  # times that a product of matrices of 512 is faster than of 64
CORRUPTIONS = 60  # kinds times severities
TIMED = 800  # images that `evaluate` runs through a model beyond its own: to compare engines and to measure latencies


@dataclass(frozen=True)
class Machine:
    """Multiply-adds a second of a matrix product, and Python's pace (1 as reference).

    `busy` is how many times longer work takes as long as others use the machine as they do now.
    """

    multiply_adds: float
    pace: float
    busy: float = 1.0


@dataclass(frozen=True)
class Counts:
    """Images of the source by split, and their bytes."""

    train: float
    val: float
    test: float
    bytes: float

    @property
    def all(self) -> float:
        return self.train + self.val + self.test


@cache
def measure(threads: int) -> Machine:
    """Measure a core of this machine for about 0.1 s, once a process, in processor time: what else runs now hardly counts.

    The matrices are so small that NumPy uses one thread: several would spin while they wait for each other.
    """
    a, weights = np.ones((256, 64, 64), np.float32), np.ones((64, 64), np.float32)
    product = min(_seconds(lambda: a @ weights) for _ in range(8))
    loop = min(_seconds(lambda: sum(i * i for i in range(100_000))) for _ in range(6))
    used = min(threads, platforms.usable_cores())
    busy = max(1.0, (platforms.load_average() + used) / (os.cpu_count() or 1))
    return Machine(used * LARGE * a.size * 64 / product, loop / REFERENCE, busy)


def _seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call, of all its threads; more than 0 also where the clock is coarse."""
    started = time.process_time()
    work()
    return max(time.process_time() - started, 1e-6)


def stages(settings: Params, counts: Counts, classes: int, machine: Machine) -> dict[str, float]:
    """Return the seconds that each stage is expected to take, by its name in dvc.yaml."""
    return _Estimate(settings, counts, classes, machine).stages()


class _Estimate:
    def __init__(self, settings: Params, counts: Counts, classes: int, machine: Machine) -> None:
        self.settings, self.counts, self.classes, self.machine = settings, counts, classes, machine
        self.size = settings.ingest.image_size
        self.views = 1 if settings.augment.policy == "none" else settings.augment.views
        self.cores = min(settings.compute.threads, platforms.usable_cores())
        baseline = settings.baseline
        self.baseline = of_architecture(baseline.architecture, self.size, baseline.channels, baseline.width)
        self.backbones = {name: of_backbone(name, self.size) for name in settings.backbones}

    def forward(self, cost: Cost | None) -> float:
        """Return the seconds of one image."""
        return self._network(cost, *FORWARD, 1) + (self.machine.pace * LAYER[0] * cost.layers if cost else 0)

    def train(self, cost: Cost | None, batch: int) -> float:
        """Return the seconds of one image in a training step: forward, and backward to inputs and to weights."""
        return self._network(cost, *TRAIN, 3) + (self.machine.pace * LAYER[1] * cost.layers / batch if cost else 0)

    def _network(self, cost: Cost | None, share: float, each: float, products: int) -> float:
        if cost is None:
            return 0.0
        arithmetic = products * cost.multiply_adds / (share * self.machine.multiply_adds)
        return arithmetic + each * cost.outputs / self.cores

    def stages(self) -> dict[str, float]:
        pace, settings, counts = self.machine.pace, self.settings, self.counts
        each = (0.3e-3 if counts.bytes < 4096 * counts.all else 2.4e-3) * counts.all
        result = {"ingest": pace * (3.2 + (each + 3.3e-9 * counts.bytes) * 2 / platforms.usable_cores())}
        stored = 0 if settings.augment.storage == "online" else self.views * counts.train
        result["augment"] = pace * (2.6 + stored * (0.4e-3 + 2.7e-8 * self.size**2) / self.cores)
        cost = self.baseline.part() if self.baseline else None
        epoch = counts.train * self.train(cost, settings.baseline.batch_size) + counts.val * self.forward(cost)
        result["baseline"] = pace * 4.2 + settings.baseline.epochs * epoch
        for name, network in self.backbones.items():
            result |= self._backbone(name, network)
        result["cross_validate"] = self._cross_validate(result)
        result |= self._evaluate()
        fetched = {f"fetch@{name}": pace * 2.5 for name in settings.fetch.datasets}
        return {"names": pace * 1.4} | fetched | result

    def _cross_validate(self, stages: dict[str, float]) -> float:
        """Return the seconds of models for all folds; embeddings are computed once, of the views of all images."""
        folds, counts = self.settings.cross_validation, self.counts
        if not folds:
            return self.machine.pace * 2.2
        trained = [seconds for name, seconds in stages.items() if name.startswith(("baseline", "transfer@", "finetune@"))]
        share = (folds - 1) / folds
        embedded = sum(seconds for name, seconds in stages.items() if name.startswith("embed@"))
        return folds * share * sum(trained) + embedded * (1 + counts.val / max(counts.train, 1))

    def _backbone(self, name: str, network: NetworkCost | None) -> dict[str, float]:
        pace, settings, counts, tuning = self.machine.pace, self.settings, self.counts, self.settings.finetune
        if network is None:
            return {}
        images = self.views * counts.train + counts.val
        cut = network.first_trained(tuning.unfreeze)
        upper, lower = network.part(cut), network.part(0, cut)
        step = counts.train * self.train(upper, tuning.batch_size) + counts.val * self.forward(upper)
        cached = map_bytes(settings, name, network, images) > 0
        if not cached:
            step += (counts.train + counts.val) * self.forward(lower)
        return {
            f"weights@{name}": pace * 4.1 + (self._pretrain(network.part()) if settings.weights.source == "pretrain" else 0),
            f"embed@{name}": pace * 4.2 + images * self.forward(network.part()),
            f"transfer@{name}": pace * (3.3 + 4e-5 * settings.transfer.epochs * counts.train),
            f"finetune@{name}": pace * 4.2 + tuning.epochs * step,
        }

    def _pretrain(self, cost: Cost) -> float:
        params = self.settings.weights
        images = 0.9 * params.pretrain_images
        epochs = max(1, min(params.pretrain_epochs, int(params.pretrain_budget * 1e12 / max(cost.multiply_adds * images, 1))))
        return self.machine.pace * 0.3e-3 * images + epochs * images * self.train(cost, params.pretrain_batch_size)

    def _evaluate(self) -> dict[str, float]:
        """Return the seconds of the stages that follow the models; the best one is not known, so the mean of all stands for it."""
        pace, settings, counts = self.machine.pace, self.settings, self.counts
        networks = [network.part() for network in self.backbones.values() if network]
        models = [*networks, *networks, *([self.baseline.part()] if self.baseline else [])]
        forwards = [self.forward(cost) for cost in models]
        best = sum(forwards) / max(len(forwards), 1)
        corrupted = CORRUPTIONS * min(counts.test, settings.diagnose.robustness_images)
        views = {"none": 1, "mirror": 2, "crops": 12}[settings.diagnose.views]
        evaluated = counts.val + counts.test
        corrupting = corrupted * (0.1e-3 + 1e-7 * self.size**2)
        regressions = 1e-5 * counts.all * self.classes
        return {
            "evaluate": pace * (6 + 1.6 * len(models)) + sum(forwards) * (evaluated + TIMED),
            "register": pace * 18,
            "diagnose": pace * (9 + corrupting + regressions) + best * (corrupted + views * evaluated + counts.all),
        }


def map_bytes(settings: Params, name: str, network: NetworkCost, images: float) -> float:
    """Return the bytes of the feature maps that `embed` keeps for `finetune`; 0 where none are kept."""
    cut = network.first_trained(settings.finetune.unfreeze)
    if not cut or name.startswith("vit_"):
        return 0.0
    size = (2 if settings.embed.feature_maps == "float16" else 4) * network.maps[cut - 1] * images
    return size if size <= settings.embed.feature_maps_gib * 2**30 else 0.0


def bounds(seconds: float, busy: float) -> tuple[float, float]:
    """Return the least and the most seconds to expect of an estimate."""
    return LOW * seconds, HIGH * seconds * busy


def as_range(seconds: float, busy: float = 1.0) -> str:
    """Return the like of `2 to 6 minutes`."""
    low, high = bounds(seconds, busy)
    if high < 90:
        return f"{max(5, round(low / 5) * 5)} to {max(10, round(high / 5) * 5)} seconds"
    if high < 5400:
        return f"{max(1, round(low / 60))} to {max(2, round(high / 60))} minutes"
    return f"{low / 3600:.1f} to {high / 3600:.1f} hours"

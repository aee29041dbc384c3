"""Train the runs of a study with the loop of the pipeline, several networks at once where that is faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.config.params import Compute
from darkroom.inference import tta
from darkroom.models.macs import layers
from darkroom.studies import vectorized
from darkroom.studies.initial_weights import PROBE_IMAGES, build_network, save_features
from darkroom.studies.learning_rate import range_test, schedule
from darkroom.studies.probes import probe
from darkroom.studies.run_config import CurvePoint, LayerStats, RunConfig, RunResult
from darkroom.studies.samples import Sample, SampleLoader
from darkroom.studies.vectorized import SingleNetwork, StackedNetworks
from darkroom.training import matmul_conv, normalization
from darkroom.training.devices import prepare
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper

EVALUATED, EVAL_BATCH, TTA_BATCH = 1000, 500, 250  # training images of an evaluation; images of a batch
ON_THE_WAY = 2000  # held-out images of an evaluation before the last one, at most
LATENCY_RUNS = 30

OnSteps = Callable[[int], None]
Stop = Callable[[CurvePoint], bool]


def compute(accelerator: str) -> Compute:
    """Return one thread and full precision, so that no figure depends on the number of processes."""
    return Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true")  # type: ignore[arg-type]


def train(
    unit: Sequence[RunConfig],
    sample: Sample,
    accelerator: str,
    on_steps: OnSteps | None = None,
    initial: Path | None = None,
    save_to: Path | None = None,
    stop: Stop | None = None,
) -> list[RunResult]:
    """Train runs with the same `RunConfig.stack_key` and return their results, in order.

    `on_steps` is called after each evaluation with the number of steps since the last one, of all runs.
    `initial` is the file with the weights of `RunConfig.pretraining`; `save_to` is where the last weights of
    a single run are written. If `stop` returns True for the latest point of the curve of a single run,
    training ends there.
    """
    device = prepare(compute(accelerator))
    began = time.monotonic()
    config = unit[0]
    loader = SampleLoader(sample, device, config)
    example = loader.normalize(loader.train_x[:2])
    networks = [build_network(c, loader, initial).to(device) for c in unit]
    for untrained in networks:
        normalization.set_momentum(untrained)
    account = layers(networks[0], tuple(loader.train_x.shape[1:]))  # type: ignore[arg-type]
    trained: list[nn.Module] = [*networks]
    image = example[:1]
    if config.cache_features:
        frozen, rest = networks[0].split()  # type: ignore[operator]
        loader.embed(frozen)
        example, trained = loader.train_x[:2], [rest]
    lr, lr_test = (config.lr, []) if config.lr else range_test(trained[0], loader, config)
    group = vectorized.ensemble(trained, example)
    evaluator = Evaluator(unit, group, loader, on_steps, stop)
    evaluator.evaluate()
    factor = schedule(config.schedule)
    stepper = Stepper(
        [ParamGroup([parameter for parameter in group.parameters() if parameter.requires_grad], stacked=len(unit) > 1)],
        config.optimizer, lr, config.weight_decay, lambda step: factor(step, config.steps, config.warmup),
    )  # fmt: skip
    torch.manual_seed(config.seed)  # of dropout
    with ExitStack() as stack:
        if device.type == "cpu" and len(unit) == 1 and any(isinstance(m, nn.Conv2d) for m in group.modules()):
            stack.enter_context(matmul_conv.as_products(group, example))
        steps = loader.batches(config.seed, config.batch_size, config.steps)
        run_epoch(group, steps, lambda logits, y: losses(logits, y).sum(), stepper, evaluator.after_step)
    seconds = round((time.monotonic() - began) / len(unit), 3)
    if save_to:
        save_features(group.network(0), save_to)
    costs = sum(layer.parameters for layer in account), sum(layer.multiply_adds for layer in account)
    results = []
    for i, c in enumerate(unit):
        network = networks[0] if config.cache_features else group.network(i)
        latency = measure_latency(network, image)
        probabilities = tta.predict_modes(network, map(loader.normalize, loader.val_x.split(TTA_BATCH)), c.tta_modes)
        results.append(RunResult(c, evaluator.curves[i], evaluator.stats[i], *costs, seconds, latency, lr, lr_test, probabilities))
    return results


class Evaluator:
    """The learning curves of the networks of a stack, and the statistics of their layers."""

    def __init__(
        self, unit: Sequence[RunConfig], group: SingleNetwork | StackedNetworks, loader: SampleLoader, on_steps: OnSteps | None,
        stop: Stop | None,
    ) -> None:  # fmt: skip
        self.group, self.loader, self.on_steps, self.stop = group, loader, on_steps, stop
        self.steps, points = unit[0].steps, unit[0].eval_points
        self.eval_steps = {round(self.steps * i / points) for i in range(1, points + 1)}
        self.step = 0
        self.curves: list[list[CurvePoint]] = [[] for _ in unit]
        self.stats: list[list[LayerStats]] = [[] for _ in unit]

    def after_step(self, *_: torch.Tensor) -> bool:
        """Evaluate where due; return whether training ends."""
        self.step += 1
        if self.step not in self.eval_steps:
            return False
        self.evaluate()
        self.group.train()
        curve = self.curves[0]
        if self.on_steps:
            self.on_steps((self.step - curve[-2].step) * len(self.curves))
        return bool(self.stop and self.stop(curve[-1]))

    def evaluate(self) -> None:
        """Add a point to each curve. Batch normalisation has the statistics of training images with the present weights."""
        loader, device = self.loader, self.loader.train_x.device
        sample = loader.train_x[: normalization.IMAGES].split(EVAL_BATCH)
        if normalization.layers(self.group):
            normalization.recompute(self.group.train(), map(loader.normalize, sample))
        train = self._loss_and_accuracy(loader.train_x[:EVALUATED], loader.train_y[:EVALUATED])
        stride = 1 if self.step == self.steps else -(-len(loader.val_y) // ON_THE_WAY)  # held-out images may be sorted by class
        val = self._loss_and_accuracy(loader.val_x[::stride], loader.val_y[::stride])
        for i, (train_figures, val_figures) in enumerate(zip(train, val, strict=True)):
            self.curves[i].append(CurvePoint(self.step, *train_figures, *val_figures))
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # keeps training's dropout
                images = loader.normalize(loader.train_x[:PROBE_IMAGES])
                self.stats[i] += probe(self.group.network(i), images, loader.train_y[:PROBE_IMAGES], self.step)

    def _loss_and_accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> list[tuple[float | None, float]]:
        """Return loss and accuracy of each network; a loss that is not finite is None."""
        self.group.eval()
        total_loss: Any = 0.0
        correct: Any = 0.0
        with torch.inference_mode():
            for x, y in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
                logits = self.group(self.loader.normalize(x))
                total_loss = total_loss + losses(logits, y) * len(y)
                correct = correct + (logits.argmax(2) == y).sum(1)
        means = [(float(a) / len(labels), float(b) / len(labels)) for a, b in zip(total_loss, correct, strict=True)]
        return [(loss if math.isfinite(loss) else None, accuracy) for loss, accuracy in means]


def measure_latency(network: nn.Module, image: torch.Tensor) -> float:
    """Return the milliseconds of a prediction for one image (1, C, S, S): the fastest of `LATENCY_RUNS`."""
    network.eval()
    times = []
    with torch.inference_mode():
        for _ in range(LATENCY_RUNS):
            started = time.perf_counter()
            network(image).argmax().item()
            times.append((time.perf_counter() - started) * 1000)
    return round(min(times), 4)


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each network, (K,), from logits (K, N, classes).

    Their sum has the gradients of each.
    """
    count = logits.shape[0]
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(count), reduction="none").view(count, -1).mean(1)

"""The only training loop: baseline, heads, fine-tuning and pretraining all run through `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.config.params import Compute, Training
from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.models import folding
from darkroom.training import matmul_conv, temperature
from darkroom.training.batches import Examples, Feed, batches
from darkroom.training.devices import autocast, device_of, prepare
from darkroom.training.optimizers import OPTIMIZERS

Epoch = dict[str, float]
Logits = list[torch.Tensor]  # of batches, (B, classes)
LOOKS = 16  # at the norm of the gradient, in an epoch


@dataclass(frozen=True)
class Fit:
    """What training came to: the metrics of every epoch, those of the best one, and the temperature that suits its logits."""

    history: list[Epoch]
    best: Epoch
    temperature: float = 1.0


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate, as a factor of the section's `lr`."""

    parameters: list[nn.Parameter] = field(repr=False)
    factor: float = 1.0


def rate(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate at a step: linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def class_weights(labels: np.ndarray, classes: int, kind: str) -> torch.Tensor | None:
    """Return (classes,) float32 weights that make every class count alike, or None for `kind="none"`."""
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=classes).clip(1)
    return torch.tensor(len(labels) / (classes * counts), dtype=torch.float32)


def fit(
    model: nn.Module,
    train: Examples,
    val: Examples,
    hyper: Training,
    compute: Compute,
    classes: int,
    *,
    what: str = "training",
    groups: list[Group] | None = None,
    freeze_statistics: bool = False,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fit:
    """Train `model`, inputs to logits, in place and leave it with the weights of its best epoch.

    Epoch e sees view e mod K of every training example. The best epoch is the one with the lowest validation loss, which is
    steadier than accuracy where validation images are few; of equals the earliest. Training ends after `hyper.epochs`, or
    after `hyper.patience` epochs without a better one. Last, the temperature is fitted on what the best epoch said of `val`.
    Only parameters in `groups` (by default all that require a gradient) are trained; with `freeze_statistics` batch
    normalisation keeps its running statistics. Identical arguments give identical weights on the same machine.
    """
    device = prepare(compute)
    model.to(device)
    trainer = _Trainer(model, groups or [Group([p for p in model.parameters() if p.requires_grad])], hyper, compute, len(train))
    weights = class_weights(train.labels, classes, hyper.class_weights)
    weights = None if weights is None else weights.to(device)
    feed, held_out = Feed(train, device), Feed(val, device)
    history: list[Epoch] = []
    best: Epoch = {}
    best_state: dict[str, torch.Tensor] = {}
    best_logits: Logits = []
    with Progress(what, hyper.epochs, "epochs") as progress, _shortcuts(model, feed, hyper, compute, freeze_statistics):
        for epoch in range(hyper.epochs):
            started = time.monotonic()
            order = np.random.default_rng([compute.seed, epoch]).permutation(len(train))
            model.train()
            if freeze_statistics:
                freeze_normalization(model)
            cut = batches(len(train), hyper.batch_size, order)
            trained = trainer.through(feed, epoch, cut, _Loss(weights, hyper.label_smoothing), first=epoch * trainer.steps)
            model.eval()
            with torch.inference_mode():
                logits: Logits = []
                held = trainer.through(held_out, 0, batches(len(val), 256, whole=True), _Loss(weights, 0.0), kept=logits)
            row = _row(what, epoch, hyper.lr * trainer.factor((epoch + 1) * trainer.steps - 1), trained, held)
            history.append(row)
            if on_epoch:
                on_epoch({**row, "images_per_second": len(train) / (time.monotonic() - started)})
            if not best or (row["val_loss"], -row["val_accuracy"]) < (best["val_loss"], -best["val_accuracy"]):
                best, best_state, best_logits = row, _copy(model), logits
            note = f"loss {row['train_loss']:.3f}  val accuracy {row['val_accuracy']:.4f}"
            if row["epoch"] - best["epoch"] >= hyper.patience:
                progress.total = int(row["epoch"])
            progress.advance(note=f"{note}  kept epoch {best['epoch']}")
            if progress.done == progress.total:
                break
    model.load_state_dict(best_state, strict=False)
    model.cpu().eval()
    return Fit(history, best, temperature.fit(torch.cat(best_logits).cpu().numpy(), val.labels))


def _row(what: str, epoch: int, lr: float, trained: dict[str, float], held: dict[str, float]) -> Epoch:
    """Return the metrics of an epoch; ParamsError where its loss is no number."""
    if not math.isfinite(trained["loss"]):
        reason = f"{what}: the loss is {trained['loss']} in epoch {epoch + 1}"
        raise ParamsError(reason, "lower `lr` of this stage, or raise `warmup_epochs`")
    metrics = {f"train_{key}": value for key, value in trained.items()} | {f"val_{key}": value for key, value in held.items()}
    return {"epoch": epoch + 1, "lr": lr, **metrics}


class _Trainer:
    """Goes through batches, with steps of the optimizer or without; `steps` is how many there are in an epoch.

    The norm of the gradient is the mean over a few steps, evenly spread, so that a small model pays nothing for it.
    """

    def __init__(self, model: nn.Module, groups: list[Group], hyper: Training, compute: Compute, count: int) -> None:
        self.model, self.groups, self.hyper, self.compute = model, groups, hyper, compute
        self.steps = len(batches(count, hyper.batch_size))
        options: list[dict[str, Any]] = [{"params": group.parameters, "lr": hyper.lr * group.factor} for group in groups]
        self.optimizer = OPTIMIZERS[hyper.optimizer](options, hyper.weight_decay)
        self.scaler = torch.amp.GradScaler(device_of(compute).type, enabled=compute.precision == "16-mixed")
        self.norms: list[torch.Tensor] = []
        self.looks = max(1, self.steps // LOOKS)

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step, counted over all epochs."""
        return rate(step, self.hyper.epochs * self.steps, round(self.hyper.warmup_epochs * self.steps))

    def step(self, loss: torch.Tensor, number: int) -> None:
        for group, option in zip(self.groups, self.optimizer.param_groups, strict=True):
            option["lr"] = self.hyper.lr * group.factor * self.factor(number)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if number % self.looks == 0:
            self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
            parameters = [p for group in self.groups for p in group.parameters]
            self.norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()

    def through(
        self, feed: Feed, view: int, wanted: list[np.ndarray], loss: _Loss, first: int | None = None, kept: Logits | None = None
    ) -> dict[str, float]:  # fmt: skip
        """Go through batches once, training from step `first` on or only looking; return mean loss and accuracy.

        The logits of each batch are added to `kept`.
        """
        totals = _Totals()
        for number, (x, y) in enumerate(feed.view(view, wanted)):
            with autocast(self.compute, feed.device):
                logits = self.model(x).float()
            value = loss(logits, y)
            if first is not None:
                self.step(value, first + number)
            if kept is not None:
                kept.append(logits)
            totals.add(value, logits, y)
        found = totals.means()
        if self.norms:
            found["gradient_norm"] = float(torch.stack(self.norms).mean())
            self.norms = []
        return found


@contextmanager
def _shortcuts(model: nn.Module, feed: Feed, hyper: Training, compute: Compute, freeze_statistics: bool) -> Iterator[None]:
    """Make the model compute the same function with the same gradients in less time, for the length of a block."""
    with ExitStack() as stack:
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            example = next(feed.view(0, [np.arange(min(2, len(feed.labels)))]))[0]
            if freeze_statistics:
                stack.enter_context(folding.folded(model, example, hyper.batch_size))
            if feed.device.type == "cpu" and compute.precision == "32-true":  # not what autocast takes in hand
                stack.enter_context(matmul_conv.as_products(model, example))
        yield


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of what training can change: parameters that require a gradient, and buffers."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - trained
    return {key: value.detach().clone() for key, value in model.state_dict().items() if key not in frozen}


def freeze_normalization(model: nn.Module) -> None:
    """Make batch normalisation use its running statistics, and leave them alone."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class _Loss:
    """Cross-entropy with class weights and label smoothing (Szegedy et al. 2016)."""

    def __init__(self, weights: torch.Tensor | None, smoothing: float) -> None:
        self.weights, self.smoothing = weights, smoothing

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, self.weights, label_smoothing=self.smoothing)


class _Totals:
    """Sums of losses and hits over batches, kept on the device so that no batch has to wait for them."""

    def __init__(self) -> None:
        self.loss: Any = 0.0
        self.right: Any = 0
        self.seen = 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.loss = self.loss + loss.detach() * len(labels)
        self.right = self.right + (logits.detach().argmax(1) == labels).sum()
        self.seen += len(labels)

    def means(self) -> dict[str, float]:
        return {"loss": float(self.loss) / self.seen, "accuracy": int(self.right) / self.seen}

"""The only training loop: baseline, heads, fine-tuning and pretraining all run through `fit`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.errors import ParamsError
from darkroom.params import Compute, Training
from darkroom.progress import Progress

Epoch = dict[str, float]


@dataclass(frozen=True)
class Examples:
    """Labelled inputs in memory or memory-mapped.

    `inputs` is (K, N, …): K views of N examples, uint8 images or float32 embeddings; `labels` is (N,) int64.
    """

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Fit:
    """What training came to: the metrics of every epoch, and those of the best one."""

    history: list[Epoch]
    best: Epoch


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate, as a factor of the section's `lr`."""

    parameters: list[nn.Parameter] = field(repr=False)
    factor: float = 1.0


def prepare(compute: Compute) -> None:
    """Set the number of threads and ask torch for algorithms that repeat bit by bit; raise ParamsError without the device."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(compute.accelerator, True):
        raise ParamsError(f"torch finds no {compute.accelerator} device here", "set `compute.accelerator` to auto or cpu")
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # a debugging aid that costs a tenth of the time
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(compute.seed)


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
    after `hyper.patience` epochs without a better one.
    Only parameters in `groups` (by default all that require a gradient) are trained; with `freeze_statistics` batch
    normalisation keeps its running statistics. Identical arguments give identical weights on the same machine.
    """
    from lightning_fabric import Fabric

    prepare(compute)
    fabric = Fabric(accelerator=compute.accelerator, devices=1, precision=compute.precision)
    groups = groups or [Group([p for p in model.parameters() if p.requires_grad])]
    optimizer = _optimizer(groups, hyper)
    ready, optimizer = fabric.setup(model, optimizer)
    weights = class_weights(train.labels, classes, hyper.class_weights)
    weights = None if weights is None else fabric.to_device(weights)

    steps_per_epoch = len(_batches(len(train), hyper.batch_size))
    steps, warmup = hyper.epochs * steps_per_epoch, round(hyper.warmup_epochs * steps_per_epoch)
    history: list[Epoch] = []
    best: Epoch = {}
    best_state: dict[str, torch.Tensor] = {}
    with Progress(what, hyper.epochs, "epochs") as progress:
        for epoch in range(hyper.epochs):
            started = time.monotonic()
            order = np.random.default_rng([compute.seed, epoch]).permutation(len(train))
            model.train()
            if freeze_statistics:
                freeze_normalization(model)

            def step(loss: torch.Tensor, number: int, epoch: int = epoch) -> None:
                factor = rate(epoch * steps_per_epoch + number, steps, warmup)
                for group, options in zip(groups, optimizer.param_groups, strict=True):
                    options["lr"] = hyper.lr * group.factor * factor
                optimizer.zero_grad(set_to_none=True)
                fabric.backward(loss)
                optimizer.step()

            view = train.inputs[epoch % len(train.inputs)]
            loss = _Loss(weights, hyper.label_smoothing)
            trained = _once(ready, fabric, view, train.labels, _batches(len(train), hyper.batch_size, order), loss, step)
            model.eval()
            with torch.inference_mode():
                held = _once(ready, fabric, val.inputs[0], val.labels, _batches(len(val), 256, whole=True), _Loss(weights, 0.0))
            row = {
                "epoch": epoch + 1,
                "lr": hyper.lr * rate((epoch + 1) * steps_per_epoch - 1, steps, warmup),
                **{f"train_{key}": value for key, value in trained.items()},
                **{f"val_{key}": value for key, value in held.items()},
            }
            history.append(row)
            if not math.isfinite(row["train_loss"]):
                raise ParamsError(
                    f"{what}: the loss is {row['train_loss']} in epoch {epoch + 1}",
                    "lower `lr` of this stage, or raise `warmup_epochs`",
                )
            if on_epoch:
                on_epoch({**row, "images_per_second": len(train) / (time.monotonic() - started)})
            if not best or (row["val_loss"], -row["val_accuracy"]) < (best["val_loss"], -best["val_accuracy"]):
                best, best_state = row, copy.deepcopy(model.state_dict())
            note = f"loss {row['train_loss']:.3f}  val accuracy {row['val_accuracy']:.4f}"
            if row["epoch"] - best["epoch"] >= hyper.patience:
                progress.total = int(row["epoch"])
            progress.advance(note=f"{note}  kept epoch {best['epoch']}")
            if progress.done == progress.total:
                break
    model.load_state_dict(best_state)
    model.cpu().eval()
    return Fit(history, best)


def freeze_normalization(model: nn.Module) -> None:
    """Make batch normalisation use its running statistics, and leave them alone."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _optimizer(groups: list[Group], hyper: Training) -> torch.optim.Optimizer:
    options = [{"params": group.parameters, "lr": hyper.lr * group.factor} for group in groups]
    if hyper.optimizer == "sgd":
        return torch.optim.SGD(options, lr=hyper.lr, momentum=0.9, nesterov=True, weight_decay=hyper.weight_decay, fused=True)
    return torch.optim.AdamW(options, lr=hyper.lr, weight_decay=hyper.weight_decay, fused=True)


def _batches(count: int, size: int, order: np.ndarray | None = None, whole: bool = False) -> list[np.ndarray]:
    """Cut an order of examples into batches; a last batch of one is left out in training, where it has no statistics."""
    order = np.arange(count) if order is None else order
    batches = [order[i : i + size] for i in range(0, count, size)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 and not whole else batches


class _Loss:
    """Cross-entropy with class weights and label smoothing (Szegedy et al. 2016)."""

    def __init__(self, weights: torch.Tensor | None, smoothing: float) -> None:
        self.weights, self.smoothing = weights, smoothing

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, self.weights, label_smoothing=self.smoothing)


def _once(
    model: Any,
    fabric: Any,
    inputs: np.ndarray,
    labels: np.ndarray,
    batches: Iterable[np.ndarray],
    loss: _Loss,
    step: Callable[[torch.Tensor, int], None] | None = None,
) -> dict[str, float]:
    """Go through the batches once, training with `step` or only looking without; return mean loss and accuracy."""
    total = right = None
    seen = 0
    for number, batch in enumerate(batches):
        x = fabric.to_device(torch.from_numpy(np.ascontiguousarray(inputs[batch])))
        y = fabric.to_device(torch.from_numpy(labels[batch]))
        logits = model(x)
        value = loss(logits, y)
        if step:
            step(value, number)
        value, hits = value.detach() * len(batch), (logits.argmax(1) == y).sum()
        total = value if total is None else total + value
        right = hits if right is None else right + hits
        seen += len(batch)
    assert total is not None
    assert right is not None
    return {"loss": float(total) / seen, "accuracy": int(right) / seen}

"""The training loop: an epoch of training or validation, and `fit`, which trains a classifier."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.config.params import Compute, Training
from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.models import folding
from darkroom.models.prediction_sets import NO_SCORES, ConformalScores
from darkroom.models.probabilities import softmax
from darkroom.training import matmul_conv, normalization, processes, temperature
from darkroom.training.batches import BatchLoader, Examples, batches
from darkroom.training.criterion import Criterion, LossFunction, make_criterion
from darkroom.training.devices import autocast, device_of, prepare
from darkroom.training.resume import Resume
from darkroom.training.shards import ShardedEpoch
from darkroom.training.state import EpochMetrics, TrainingState
from darkroom.training.stepper import ParamGroup, Stepper, lr_factor

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
Step = Callable[[torch.Tensor], None]
OnEpoch = Callable[[EpochMetrics], None]
BatchHook = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], bool | None]
NORMS_PER_EPOCH = 16  # steps of an epoch after which the norm of the gradient is computed
VAL_BATCH = 256


@dataclass(frozen=True)
class FitResult:
    """The metrics of every epoch and of the best one, and the temperature and the scores of prediction sets from its logits."""

    history: list[EpochMetrics]
    best: EpochMetrics
    temperature: float = 1.0
    conformal: ConformalScores = NO_SCORES
    earlier_seconds: float = 0.0  # of training in processes that were stopped before its end


def run_epoch(
    model: nn.Module,
    batches: Batches,
    loss_function: LossFunction,
    stepper: Step | None = None,
    on_batch: BatchHook | None = None,
    *,
    freeze_statistics: bool = False,
    precision: AbstractContextManager[Any] | None = None,
    weight_of: Callable[[torch.Tensor], Any] = len,
) -> float:
    """Train on batches of (inputs, targets) or, without a stepper, evaluate them; return the mean loss per
    example.

    The model is put into training or evaluation mode. `loss_function` takes the model's outputs, float32, and
    the targets. `on_batch` is called with the loss, the outputs and the targets after each batch; it ends the
    epoch by returning True. With `freeze_statistics` batch normalisation uses and keeps its running
    statistics. `precision` is the context of the forward pass. `weight_of` returns the weight of a batch's mean
    loss from its targets. The loss is summed on the device, so that no batch waits for it.
    """
    model.train(stepper is not None)
    if freeze_statistics:
        normalization.freeze(model)
    total: Any = 0.0
    total_weight: Any = 0.0
    with nullcontext() if stepper else torch.inference_mode():
        for inputs, targets in batches:
            with precision or nullcontext():
                outputs = model(inputs).float()
            loss = loss_function(outputs, targets)
            if stepper:
                stepper(loss)
            weight = weight_of(targets)
            total = total + loss.detach() * weight
            total_weight = total_weight + weight
            if on_batch and on_batch(loss.detach(), outputs.detach(), targets):
                break
    return float(total) / float(total_weight) if float(total_weight) else math.nan


def fit(
    model: nn.Module,
    train: Examples,
    val: Examples,
    hyper: Training,
    compute: Compute,
    classes: int,
    *,
    description: str = "training",
    groups: list[ParamGroup] | None = None,
    freeze_statistics: bool = False,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
) -> FitResult:
    """Train `model`, inputs to logits, in place and leave it with the weights of its best epoch.

    Epoch e sees view e mod K of every training example. The best epoch is the one with the lowest validation loss, which
    is steadier than accuracy where validation images are few; ties go to the higher accuracy, then to the earlier epoch.
    Training ends after `hyper.epochs`, or after `hyper.patience` epochs without a better one. The temperature and the
    scores of prediction sets are those of the best epoch's logits of `val`. Only the parameters in `groups` (by default
    all that require a gradient) are trained; with `freeze_statistics` batch normalisation keeps its running statistics;
    otherwise they are computed again before each validation of the first `normalization.SETTLED` steps. With `resume` a
    training that was stopped goes on where it was. Identical arguments give identical weights on the same machine,
    whether and where it was stopped. Raises ParamsError where the loss of training or validation becomes NaN or infinite.

    Where several processes call it (`training.processes`), each computes its part of every batch, and all return the same. Batch
    normalisation that learns its statistics needs those of the whole batch: there rank 0 trains alone.
    """
    device = prepare(compute)
    if normalization.layers(model) and not freeze_statistics:
        processes.go_on_alone(f"{description}: in one process, since batch normalisation needs the statistics of whole batches")
    model.to(device)
    processes.begin_alike(model, compute.seed)
    train_loader, val_loader = BatchLoader(train, device), BatchLoader(val, device)
    stepper = _make_stepper(groups or [ParamGroup([p for p in model.parameters() if p.requires_grad])], hyper, compute, len(train))
    criterion = make_criterion(train.labels, classes, hyper, device)
    epochs = _Epochs(model, criterion, stepper, autocast(compute, device), freeze_statistics, description, classes)
    state = TrainingState(model, stepper)
    shortcuts = _shortcuts(model, train_loader, hyper, compute, freeze_statistics)
    with Progress(description, hyper.epochs, "epochs") as progress, shortcuts:
        if resume and state.load(resume, [hyper.model_dump(), compute.model_dump(), classes, freeze_statistics], train, val):
            _replay(state, description, progress, on_epoch)
        for epoch in range(len(state.history), hyper.epochs):
            if state.is_done(hyper):
                break
            started = time.monotonic()
            order = np.random.default_rng([compute.seed, epoch]).permutation(len(train))
            trained = epochs.train(train_loader, epoch, batches(len(train), hyper.batch_size, order), order)
            validated, logits = epochs.validate(val_loader, epoch)
            row = _epoch_metrics(epoch, stepper, trained, validated)
            if on_epoch:
                on_epoch({**row, "images_per_second": len(train) / (time.monotonic() - started)})
            state.add(row, logits)
            if resume and processes.decided_by_first(resume.is_due(state.is_done(hyper))):
                state.save(resume)
            if state.is_done(hyper):
                progress.total = int(row["epoch"])
            note = f"loss {row['train_loss']:.3f}  val accuracy {row['val_accuracy']:.4f}  best epoch {state.best['epoch']}"
            progress.advance(note=note)
    model.load_state_dict(state.best_weights, strict=False)
    model.cpu().eval()
    return _result(state, val.labels, resume.earlier if resume else 0.0)


def _replay(state: TrainingState, description: str, progress: Progress, on_epoch: OnEpoch | None) -> None:
    """Say that a training goes on, and pass on the epochs that an earlier run has saved."""
    progress.advance(len(state.history))
    print(f"{description}: goes on after epoch {len(state.history)}, which an earlier run has saved")
    if on_epoch:
        for row in state.history:
            on_epoch(row)


def _result(state: TrainingState, labels: np.ndarray, earlier_seconds: float) -> FitResult:
    """Return the result of a training by the best epoch's logits of the validation images."""
    logits = state.best_logits.numpy()
    fitted = temperature.fit(logits, labels)
    return FitResult(state.history, state.best, fitted, ConformalScores.of(softmax(logits, fitted), labels), earlier_seconds)


@dataclass(frozen=True)
class _Epochs:
    """Runs epochs of the training and the validation of a classifier, and raises ParamsError where a loss is not finite."""

    model: nn.Module
    criterion: Criterion
    stepper: Stepper
    precision: AbstractContextManager[Any]
    freeze_statistics: bool
    description: str
    classes: int

    def train(self, loader: BatchLoader, epoch: int, rows: list[np.ndarray], order: np.ndarray) -> EpochMetrics:
        """Train on the view of an epoch, in batches of these rows; return loss and accuracy."""
        examples: Batches = loader.view(epoch, rows)
        step: Step = self.stepper
        if processes.size() > 1:
            examples = step = ShardedEpoch(loader, epoch, rows, self.stepper, self.criterion.weight_of)
        metrics, _ = _classify(self.model, examples, self.criterion, self.precision, step, self.freeze_statistics)
        _check_finite(metrics["loss"], f"{self.description}: the loss is", epoch)
        if self.stepper.count < normalization.SETTLED and not self.freeze_statistics:
            _recompute_statistics(self.model, loader, epoch, order)
        return metrics

    def validate(self, loader: BatchLoader, epoch: int) -> tuple[EpochMetrics, torch.Tensor]:
        """Return loss, accuracy and logits (N, classes), on the CPU, of all examples."""
        count = len(loader.labels)
        own = processes.share(np.arange(count))
        rows = batches(len(own), VAL_BATCH, own, keep_single=True)
        metrics, parts = _classify(self.model, loader.view(0, rows), self.criterion, self.precision)
        _check_finite(metrics["loss"], f"{self.description}: the validation loss is", epoch)
        return metrics, processes.assemble(torch.cat(parts).cpu() if parts else torch.empty(0, self.classes), own, count)


def _epoch_metrics(epoch: int, stepper: Stepper, trained: EpochMetrics, validated: EpochMetrics) -> EpochMetrics:
    """Return a row of the history: the number of the epoch, the rate of its last step, and the metrics of both parts."""
    row = {"epoch": epoch + 1, "lr": stepper.lr * stepper.schedule(stepper.count - 1)}
    row |= {f"train_{key}": value for key, value in trained.items()} | {"train_gradient_norm": stepper.gradient_norm()}
    return row | {f"val_{key}": value for key, value in validated.items()}


def _recompute_statistics(model: nn.Module, loader: BatchLoader, epoch: int, order: np.ndarray) -> None:
    """Give batch normalisation the statistics of some training examples, as the epoch had them in its order."""
    if normalization.layers(model):
        chosen = order[: normalization.IMAGES]
        examples = loader.view(epoch, batches(len(chosen), VAL_BATCH, chosen))
        normalization.recompute(model.train(), (inputs for inputs, _ in examples))


def _check_finite(loss: float, text: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise ParamsError(f"{text} {loss} in epoch {epoch + 1}", "lower `lr` of this stage, or raise `warmup_epochs`")


def _make_stepper(groups: list[ParamGroup], hyper: Training, compute: Compute, examples: int) -> Stepper:
    """Return the stepper of `fit` for a number of training examples."""
    steps = len(batches(examples, hyper.batch_size))  # of an epoch
    reduce = processes.sum_gradients if processes.size() > 1 else None
    warmup = round(hyper.warmup_epochs * steps)
    scaler = torch.amp.GradScaler(device_of(compute.accelerator).type, enabled=compute.precision == "16-mixed")
    return Stepper(
        groups, hyper.optimizer, hyper.lr, hyper.weight_decay, lambda step: lr_factor(step, hyper.epochs * steps, warmup),
        scaler=scaler, norm_interval=max(1, steps // NORMS_PER_EPOCH), reduce=reduce,
    )  # fmt: skip


def _classify(
    model: nn.Module,
    examples: Batches,
    criterion: Criterion,
    precision: AbstractContextManager[Any],
    stepper: Step | None = None,
    freeze_statistics: bool = False,
) -> tuple[EpochMetrics, list[torch.Tensor]]:
    """Run an epoch of a classifier; return loss and accuracy, and the logits where nothing is trained."""
    correct: Any = 0  # counted on the device
    total_weight: Any = 0
    count: float = 0
    outputs: list[torch.Tensor] = []

    def count_correct(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal correct, count, total_weight
        correct = correct + (logits.argmax(1) == labels).sum()
        total_weight = total_weight + criterion.weight_of(labels)
        count += len(labels)
        if stepper is None:
            outputs.append(logits)

    loss = run_epoch(
        model, examples, criterion.loss(stepper is not None), stepper, count_correct, freeze_statistics=freeze_statistics,
        precision=precision, weight_of=criterion.weight_of,
    )  # fmt: skip
    if processes.size() > 1:
        weighted = loss * float(total_weight) if count else 0.0
        weighted, weight, correct, count = processes.sum_numbers(weighted, float(total_weight), int(correct), count)
        loss = weighted / weight
    return {"loss": loss, "accuracy": int(correct) / count}, outputs


@contextmanager
def _shortcuts(model: nn.Module, loader: BatchLoader, hyper: Training, compute: Compute, freeze_statistics: bool) -> Iterator[None]:
    """Compute the same function and gradients in less time, for the length of a block."""
    with ExitStack() as stack:
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            example = next(loader.view(0, [np.arange(min(2, len(loader.labels)))]))[0]
            if freeze_statistics:
                stack.enter_context(folding.folded(model, example, hyper.batch_size))
            if loader.device.type == "cpu" and compute.precision == "32-true":  # autocast does not reach custom functions
                stack.enter_context(matmul_conv.as_products(model, example))
        yield

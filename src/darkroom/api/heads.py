"""A linear head on embeddings, trained as the stage `transfer` trains one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch

from darkroom.api.html import table
from darkroom.config import params
from darkroom.config.params import Compute, Transfer
from darkroom.core.errors import ParamsError
from darkroom.models.base import new_head
from darkroom.models.probabilities import softmax
from darkroom.training.batches import Examples
from darkroom.training.embedding import StandardizedHead
from darkroom.training.loop import FitResult, fit

DEFAULTS: dict[str, Any] = {  # of params.yaml, section `transfer`
    "epochs": 30, "batch_size": 64, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "warmup_epochs": 1,
    "label_smoothing": 0.05, "class_weights": "none", "patience": 10, "head": "pooled",
}  # fmt: skip
VAL_SHARE = 0.2


class Head:
    """A linear classifier of embeddings, with the method names of scikit-learn."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, classes: np.ndarray, result: FitResult) -> None:
        self.coef_, self.intercept_, self.classes_ = weight, bias, classes  # (C, D), (C,), (C,)
        self.temperature = result.temperature
        self.history = pd.DataFrame(result.history)
        self.best = result.best

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (N, C) float64 of embeddings (N, D)."""
        return softmax(np.asarray(embeddings) @ self.coef_.T + self.intercept_, self.temperature)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the labels (N,) of embeddings (N, D)."""
        return self.classes_[self.predict_proba(embeddings).argmax(1)]

    def score(self, embeddings: np.ndarray, labels: Sequence[Any] | np.ndarray) -> float:
        """Return the accuracy on embeddings (N, D)."""
        return float(np.mean(self.predict(embeddings) == np.asarray(labels)))

    def __repr__(self) -> str:
        return f"<head {self.coef_.shape[1]} → {len(self.classes_)} classes: val accuracy {self.best['val_accuracy']:.4f}>"

    def _repr_html_(self) -> str:
        rows = [(escape(name), f"{value:.4f}" if isinstance(value, float) else f"{value}") for name, value in self.best.items()]
        return table(("best epoch", ""), rows)


def train_head(
    embeddings: np.ndarray,
    labels: Sequence[Any] | np.ndarray,
    val: tuple[np.ndarray, Sequence[Any] | np.ndarray] | None = None,
    *,
    seed: int = 0,
    threads: int | None = None,
    **settings: Any,
) -> Head:
    """Train a linear head on embeddings (N, D), or on K views of them (K, N, D), float32; return its best epoch.

    `labels` (N,) are names or numbers. `val` are the embeddings (M, D) and labels that choose the epoch and the temperature;
    by default a fifth of the examples, stratified by class. `threads` are by default torch's own. `settings` are keys of
    params.yaml's section `transfer`, such as lr, epochs or class_weights. Raises ParamsError for arrays that do not fit, a
    class of one example, or an unknown key.
    """
    views = _array(embeddings, "embeddings")
    views = views[None] if views.ndim == 2 else views
    names = _labels(labels, "labels")
    if views.ndim != 3 or names.shape != views.shape[1:2]:
        reason = f"embeddings {np.shape(embeddings)} and labels {names.shape} do not fit together"
        raise ParamsError(reason, "pass embeddings (N, D) or (K, N, D), and N labels")
    classes, numbers = np.unique(names, return_inverse=True)
    if len(classes) < 2:
        raise ParamsError(f"labels have {len(classes)} class", "pass examples of two or more")
    threads = torch.get_num_threads() if threads is None else threads
    machine = {"seed": seed, "threads": threads, "accelerator": "cpu", "precision": "32-true"}
    try:
        hyper = params.validate(Transfer, DEFAULTS | settings, "train_head")
        compute = params.validate(Compute, machine, "train_head")
    except ParamsError as error:
        raise ParamsError(error.problem, f"the settings are seed, threads, {', '.join(DEFAULTS)}") from error
    if val is None:
        train_rows, val_rows = _split(numbers, classes, compute.seed)
        train = Examples(views[:, train_rows], numbers[train_rows])
        held_out = Examples(views[:1, val_rows], numbers[val_rows])
    else:
        train = Examples(views, numbers)
        held_out = Examples(_array(val[0], "val")[None], _numbers(_labels(val[1], "labels of val"), classes))
        if not len(held_out.labels) or held_out.inputs.shape[1:] != (len(held_out.labels), views.shape[2]):
            reason = f"val has embeddings {np.shape(val[0])} and {len(held_out.labels)} labels"
            raise ParamsError(reason, f"pass embeddings (M, {views.shape[2]}), and M labels")
    model = StandardizedHead(new_head(views.shape[2], len(classes), seed), views)
    result = fit(model, train, held_out, hyper, compute, len(classes), description="training a head")
    model.fold()
    with torch.inference_mode():
        return Head(model.head.weight.numpy().copy(), model.head.bias.numpy().copy(), classes, result)


def _array(values: Any, name: str) -> np.ndarray:
    """Return numbers as float32."""
    try:
        return np.asarray(values, np.float32)
    except (ValueError, TypeError) as error:
        raise ParamsError(f"{name} cannot be read as numbers: {error}", "pass an array of numbers") from error


def _labels(values: Any, name: str) -> np.ndarray:
    """Return labels as an array of text or of whole numbers; a column of pandas holds text as objects."""
    labels = np.asarray(values)
    if labels.dtype.kind not in "biuU" and labels.size and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.dtype.kind not in "biuU":
        kind = f"of {labels.dtype}" if labels.size else "empty"
        raise ParamsError(f"{name} are {kind}", "pass a whole number or text for each")
    return labels


def _numbers(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the place of each label in the sorted classes."""
    if (labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
        raise ParamsError(f"labels are of {classes.dtype}, and those of val of {labels.dtype}", "pass both in the same form")
    places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    unknown = sorted(set(labels[classes[places] != labels].tolist()), key=str)
    if unknown:
        raise ParamsError(f"val has labels that the training examples lack: {', '.join(map(str, unknown[:5]))}", "leave them out")
    return places


def _split(numbers: np.ndarray, classes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and those held out: of each class a share, and at least one."""
    rng = np.random.default_rng(seed)
    held_out: list[int] = []
    for number, count in enumerate(np.bincount(numbers)):
        if count < 2:
            raise ParamsError(f"{classes[number]} has one example alone, so that none can be held out", "pass more, or `val`")
        rows = rng.permutation(np.flatnonzero(numbers == number))
        held_out += rows[: max(1, round(VAL_SHARE * count))].tolist()
    mask = np.zeros(len(numbers), bool)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)

"""The state of a training after an epoch, which is saved so that a training that was stopped goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.config.params import Training
from darkroom.core.kept_results import digest
from darkroom.training import processes
from darkroom.training.batches import Examples
from darkroom.training.resume import Resume
from darkroom.training.stepper import Stepper

EpochMetrics = dict[str, float]


class TrainingState:
    """What decides the epochs after the last one, and what has come of those before: the best epoch, its weights and logits."""

    def __init__(self, model: nn.Module, stepper: Stepper) -> None:
        self.model, self.stepper = model, stepper
        self.history: list[EpochMetrics] = []
        self.best: EpochMetrics = {}
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_logits = torch.empty(0)

    def add(self, row: EpochMetrics, logits: torch.Tensor) -> None:
        """Add an epoch with its logits of the validation examples."""
        self.history.append(row)
        if not self.best or (row["val_loss"], -row["val_accuracy"]) < (self.best["val_loss"], -self.best["val_accuracy"]):
            self.best, self.best_weights, self.best_logits = row, snapshot(self.model), logits

    def is_done(self, hyper: Training) -> bool:
        """Tell whether training has ended, by the number of epochs or for want of a better one."""
        return bool(self.history) and (
            len(self.history) >= hyper.epochs or self.history[-1]["epoch"] - self.best["epoch"] >= hyper.patience
        )

    def load(self, resume: Resume, settings: list[Any], train: Examples, val: Examples) -> bool:
        """Take the state that was saved of a training that began as this one does; return whether there is one.

        Of several processes each reads it. Raises ParamsError where they find different ones.
        """
        is_loaded = self._load(resume, settings, train, val)
        processes.check_same(
            [len(self.history), self.stepper.count], "the processes of this training find different states in .darkroom/resume",
            "give all machines the same folder of the project, or delete .darkroom/resume on each of them, then run it again",
        )  # fmt: skip
        return is_loaded

    def _load(self, resume: Resume, settings: list[Any], train: Examples, val: Examples) -> bool:
        inputs = resume.data or digest(np.asarray(train.inputs), np.asarray(val.inputs))
        labels = digest(np.asarray(train.labels), np.asarray(val.labels))
        groups = [(group.factor, group.stacked, [tuple(p.shape) for p in group.parameters]) for group in self.stepper.groups]
        loaded = resume.start(self.model.state_dict(), [settings, inputs, labels, groups, self.stepper.norm_interval])
        if loaded is None:
            return False
        tensors, values = loaded
        parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in ("model", "best", "optimizer", "random")}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        self.model.load_state_dict(parts["model"], strict=False)
        optimizer: dict[int, dict[str, Any]] = {int(index): dict(items) for index, items in values["optimizer"].items()}
        parameters = [parameter for group in self.stepper.optimizer.param_groups for parameter in group["params"]]
        for key, tensor in parts["optimizer"].items():
            index, _, name = key.partition(".")
            parameter = parameters[int(index)]
            if tensor.shape == parameter.shape:  # fused optimizers walk both in the order of the memory
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            optimizer.setdefault(int(index), {})[name] = tensor
        self.stepper.optimizer.load_state_dict({**self.stepper.optimizer.state_dict(), "state": optimizer})
        self.stepper.scaler.load_state_dict(values["scaler"])
        self.stepper.count = values["count"]
        self.history, self.best = values["history"], values["best"]
        self.best_logits = parts["best"].pop("logits")
        self.best_weights = {name.removeprefix("weights."): tensor for name, tensor in parts["best"].items()}
        suffix = _suffix(processes.rank())
        torch.set_rng_state(parts["random"][f"cpu{suffix}"])
        if f"cuda{suffix}" in parts["random"]:
            torch.cuda.set_rng_state(parts["random"][f"cuda{suffix}"])
        return True

    def save(self, resume: Resume) -> None:
        """Save the state for a process that goes on after this one was killed; of several, rank 0 writes it."""
        random = {f"random.cpu{_suffix(i)}": state for i, state in enumerate(processes.gather(torch.get_rng_state()))}
        if torch.cuda.is_initialized():
            states = processes.gather(torch.cuda.get_rng_state())
            random |= {f"random.cuda{_suffix(i)}": state for i, state in enumerate(states)}
        if processes.rank():
            return
        tensors = {f"model.{name}": tensor for name, tensor in snapshot(self.model).items()}
        tensors |= {f"best.weights.{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {"best.logits": self.best_logits, **random}
        optimizer: dict[int, dict[str, Any]] = {}
        for index, items in self.stepper.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": item for name, item in items.items() if isinstance(item, torch.Tensor)}
            optimizer[index] = {name: item for name, item in items.items() if not isinstance(item, torch.Tensor)}
        resume.save(tensors, {
            "history": self.history, "best": self.best, "optimizer": optimizer, "count": self.stepper.count,
            "scaler": self.stepper.scaler.state_dict(),
        })  # fmt: skip


def _suffix(rank: int) -> str:
    """Return what the name of a random state ends in, by the process that it is of."""
    return f".{rank}" if rank else ""


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of what training can change: parameters that require a gradient, and buffers."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {key: value.detach().clone() for key, value in model.state_dict().items() if key not in frozen}

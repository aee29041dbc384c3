"""How examples reach the network: indexed from memory maps, resident on a GPU, or made ahead of time by workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

RESIDENT = 0.4  # of a GPU's free memory may hold the examples themselves


class View(Protocol):
    """One view of N examples: an array (N, …), or what can be asked for batches of it."""

    def __len__(self) -> int: ...
    def __getitem__(self, batch: Any) -> np.ndarray: ...


class Views(Protocol):
    """K views of N examples: an array (K, N, …), or what gives a `View` for each number."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, number: Any) -> Any: ...


@dataclass(frozen=True)
class Examples:
    """Labelled inputs in memory, memory-mapped, or made when they are asked for.

    `inputs` is (K, N, …): K views of N examples, uint8 images or float32 embeddings; `labels` is (N,) int64.
    """

    inputs: Views
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def batches(count: int, size: int, order: np.ndarray | None = None, whole: bool = False) -> list[np.ndarray]:
    """Cut an order of examples into batches; a last batch of one is left out in training, where it has no statistics."""
    order = np.arange(count) if order is None else order
    cut = [order[i : i + size] for i in range(0, count, size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) == 1 and not whole else cut


def arrays(view: View, wanted: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the batches of a view; a view that makes its examples is told of all batches, so that it can work ahead."""
    stream = getattr(view, "stream", None)
    if stream is not None:
        yield from stream(wanted)
        return
    for batch in wanted:
        yield np.ascontiguousarray(view[batch])


class Feed:
    """Batches of examples on a device.

    On a GPU the examples are copied there once, if they take at most `RESIDENT` of its free memory; otherwise each batch is
    copied while the one before it is computed.
    """

    def __init__(self, examples: Examples, device: torch.device, free: int | None = None) -> None:
        self.device = device
        self.labels = torch.from_numpy(np.asarray(examples.labels)).to(device)
        self.inputs = examples.inputs
        self.resident: list[torch.Tensor] = []
        if device.type == "cuda" and free is None:
            free = torch.cuda.mem_get_info(device)[0]
        if isinstance(self.inputs, np.ndarray) and free and self.inputs.nbytes <= RESIDENT * free:
            self.resident = [torch.from_numpy(np.ascontiguousarray(view)).to(device) for view in self.inputs]

    def view(self, number: int, wanted: list[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the inputs and labels of each batch of view `number` mod K."""
        number %= len(self.inputs)
        indices = [torch.from_numpy(batch).to(self.device) for batch in wanted]
        if self.resident:
            for index in indices:
                yield self.resident[number][index], self.labels[index]
            return
        for index, made in zip(indices, arrays(self.inputs[number], wanted), strict=True):
            x = torch.from_numpy(made)
            if self.device.type == "cuda":  # copied while the device still computes
                x = x.pin_memory()
            yield x.to(self.device, non_blocking=True), self.labels[index]

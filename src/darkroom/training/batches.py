"""Batches of examples: indexed from memory maps, resident on a GPU, or made ahead of time by workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

MAX_RESIDENT_SHARE = 0.4  # of a GPU's free memory may hold the examples themselves


class View(Protocol):
    """One view of N examples: an array (N, …), or an object that makes batches of it on request."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, batch: Any) -> np.ndarray: ...


class Views(Protocol):
    """K views of N examples: an array (K, N, …), or an object that returns a `View` for each number."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, number: Any) -> Any: ...


@dataclass(frozen=True)
class Examples:
    """Labelled inputs in memory, memory-mapped, or made on request.

    `inputs` is (K, N, …): K views of N examples, uint8 images or float32 embeddings; `labels` is (N,) int64.
    """

    inputs: Views
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class SomeViews:
    """The views (K, M, …) of some of N examples, by their `indices` (M,) int."""

    def __init__(self, views: Views, indices: np.ndarray) -> None:
        self.views, self.indices = views, indices
        self.shape = (len(views), len(indices), *views.shape[2:])

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: int) -> SomeView:
        return SomeView(self.views[number], self.indices)


class SomeView:
    """One view of some examples, an array or made on request as that of all."""

    def __init__(self, view: View, indices: np.ndarray) -> None:
        self.view, self.indices = view, indices
        self.shape = (len(indices), *view.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, batch: Any) -> np.ndarray:
        return self.view[self.indices[batch]]

    def stream(self, batches: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the batches of indices."""
        return load_batches(self.view, [self.indices[batch] for batch in batches])


def batches(count: int, size: int, order: np.ndarray | None = None, keep_single: bool = False) -> list[np.ndarray]:
    """Cut an order of examples, by default their own, into batches of indices.

    A last batch of one is dropped unless `keep_single`: batch normalisation cannot compute the variance of
    one example.
    """
    order = np.arange(count) if order is None else order
    cut = [order[i : i + size] for i in range(0, count, size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) == 1 and not keep_single else cut


def load_batches(view: View, indices: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the batches of a view; one with a `stream` gets all indices at once, to work ahead."""
    stream = getattr(view, "stream", None)
    if stream is not None:
        yield from stream(indices)
        return
    for batch in indices:
        yield np.ascontiguousarray(view[batch])


class BatchLoader:
    """Batches of examples on a device.

    On a GPU the examples are copied there once, if they take at most `MAX_RESIDENT_SHARE` of its free memory;
    otherwise each batch is copied while the one before it is computed.
    """

    def __init__(self, examples: Examples, device: torch.device, free: int | None = None) -> None:
        self.device = device
        self.labels = torch.from_numpy(np.asarray(examples.labels)).to(device)
        self.inputs = examples.inputs
        self.resident: list[torch.Tensor] = []
        if device.type == "cuda" and free is None:
            free = torch.cuda.mem_get_info(device)[0]
        if isinstance(self.inputs, np.ndarray) and free and self.inputs.nbytes <= MAX_RESIDENT_SHARE * free:
            self.resident = [torch.from_numpy(np.ascontiguousarray(view)).to(device) for view in self.inputs]

    def view(self, number: int, indices: list[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the inputs and labels of each batch of view `number` mod K."""
        number %= len(self.inputs)
        on_device = [torch.from_numpy(batch).to(self.device) for batch in indices]
        if self.resident:
            for index in on_device:
                yield self.resident[number][index], self.labels[index]
            return
        for index, array in zip(on_device, load_batches(self.inputs[number], indices), strict=True):
            x = torch.from_numpy(array)
            if self.device.type == "cuda":  # pinned memory is copied while the device still computes
                x = x.pin_memory()
            yield x.to(self.device, non_blocking=True), self.labels[index]

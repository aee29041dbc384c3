"""The batches of an epoch over several processes: each computes its part, and the step is that of the whole batch.

The loss of a batch is a mean, weighted by class where classes have weights. So the loss of a part counts by its share of the
batch's weight, and the sum of all parts' gradients is the gradient of the whole (Goyal et al. 2017, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from darkroom.training import processes
from darkroom.training.batches import BatchLoader
from darkroom.training.stepper import Stepper

WeightOf = Callable[[torch.Tensor], Any]


class ShardedEpoch:
    """The batches of one epoch of training, `rows` of view `number`, of which this process has its part.

    Iterate over it for inputs and labels, and call it with the loss of each part to make the step. A part may be empty, where
    a batch has fewer examples than there are processes: the step is then made without a loss of its own.
    """

    def __init__(self, loader: BatchLoader, number: int, rows: list[np.ndarray], stepper: Stepper, weight_of: WeightOf) -> None:
        self.loader, self.number, self.rows, self.stepper, self.weight_of = loader, number, rows, stepper, weight_of
        self.factor: Any = 1.0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        parts = [processes.share(batch) for batch in self.rows]
        own = self.loader.view(self.number, [part for part in parts if len(part)])
        for batch, part in zip(self.rows, parts, strict=True):
            if not len(part):
                self.factor = 1.0
                self(torch.zeros((), device=self.loader.device, requires_grad=True))
                continue
            inputs, labels = next(own)
            batch_labels = self.loader.labels[torch.from_numpy(batch).to(self.loader.device)]
            self.factor = self.weight_of(labels) / self.weight_of(batch_labels)
            yield inputs, labels

    def __call__(self, loss: torch.Tensor) -> None:
        self.stepper(loss * self.factor)

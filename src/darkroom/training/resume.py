"""Training that goes on where it was stopped: after a kill at most one epoch is done twice, or five seconds of shorter ones.

The state after an epoch is one safetensors file, `NAME.safetensors` in `kept_results.folder()`, with everything that decides the
epochs after it. It is used by a training of the same data, settings, code and machine alone, so that the weights have the
bytes of a training that nothing disturbed. It stays until `evaluate` runs: DVC may be killed before it has saved the result.

Where epochs are short, files take at most `MAX_SHARE` of the time of training, but no more than `LONGEST` seconds of it are at
risk. Where a file takes longer than `LONGEST`, as many seconds of training lie between two, so that files never take more than
half of the time (`benchmarks/training_state.py`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from darkroom.core import atomic, kept_results, shortage, strict_json
from darkroom.core.errors import WorkspaceError

INTERVAL = 1.0  # seconds of training that are not worth a file
MAX_SHARE = 0.02  # of the time of training may go into files, where less is at risk than
LONGEST = 5.0  # seconds of epochs, which a kill may cost
HEADER = "state"  # the key of the values that are no tensors
ROOMS = ("models", "training")  # whose code decides the weights

Tensors = dict[str, torch.Tensor]


class Resume:
    """The state of one training at a time under a name.

    `data` identifies the inputs by their content; inputs that are arrays need none.
    """

    def __init__(self, name: str, data: str = "") -> None:
        self.name, self.data = name, data
        self.identity = ""
        self.began = self.saved = time.monotonic()
        self.cost = 0.0  # seconds of the last file
        self.earlier = 0.0  # seconds of training before this process

    @property
    def file(self) -> Path:
        return kept_results.folder() / f"{self.name.replace('/', '-')}.safetensors"

    @property
    def seconds(self) -> float:
        """The seconds of training, also of processes before this one."""
        return self.earlier + time.monotonic() - self.began

    def start(self, tensors: Mapping[str, torch.Tensor], settings: object) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the tensors and values that were saved last, or None where there are none of this training.

        A training is known by its data, its tensors and settings at the start, the code, and the machine.
        """
        machine = torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability()
        self.identity = kept_results.identity(machine, settings, _digest(tensors), rooms=ROOMS)
        with suppress(OSError, ValueError, KeyError, SafetensorError), safe_open(self.file, "pt") as file:
            values = strict_json.loads(file.metadata()[HEADER])
            if values["identity"] == self.identity:
                saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
                if _digest(saved) == values["digest"]:
                    self.earlier = values["seconds"]
                    return saved, values
        return None

    def is_due(self, is_last: bool) -> bool:
        """Tell whether the state after this epoch is worth a file."""
        now = time.monotonic()
        if is_last:
            return now - self.began >= INTERVAL
        return now - self.saved >= max(INTERVAL, min(self.cost / MAX_SHARE, max(LONGEST, self.cost)))

    def save(self, tensors: Tensors, values: Mapping[str, Any]) -> None:
        """Replace the file by these tensors and values; where the disk is full, say so and go on."""
        started = time.monotonic()
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        content = {**values, "identity": self.identity, "digest": _digest(tensors), "seconds": self.seconds}
        try:
            shortage.require_space(self.file, sum(value.nbytes for value in tensors.values()))
            with atomic.new_file(self.file) as working:
                save_file(tensors, working, {HEADER: json.dumps(content)})
        except (OSError, SafetensorError, WorkspaceError) as error:  # the disk is full; training may yet end well
            print(
                f"{self.file} cannot be written ({shortage.reason(error)}): a kill would cost the training until now",
                file=sys.stderr,
            )
        self.saved = time.monotonic()
        self.cost = self.saved - started


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    result = xxhash.xxh3_128()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        result.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        result.update(tensor.flatten().view(torch.uint8).numpy().data)
    return result.hexdigest()

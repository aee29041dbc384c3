"""A file of ImageNet weights, described without its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightFile:
    """A file of ImageNet weights: where it comes from, where it is kept, and its size in MiB, 0 if it is not known."""

    url: str
    cached: Path
    megabytes: float

    @property
    def is_cached(self) -> bool:
        """Whether it is there already."""
        return self.cached.exists()


def cache_folder() -> Path:
    """Return the folder in which torch keeps weight files; as torch.hub finds it, whose import takes seconds."""
    home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    return Path(os.path.expanduser(home), "hub", "checkpoints")

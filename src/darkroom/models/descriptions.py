"""The JSON files beside weights: where a backbone's weights come from, and which backbone made embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core import atomic
from darkroom.models.base import Preprocessing
from darkroom.models.specs import NetworkSpec, spec_from_dict

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights come from, and the normalisation that they were trained with.

    `details` depend on the source: the seed of random weights, the figures of pretraining, or the file and
    its sha256.
    """

    architecture: NetworkSpec
    mean: Channels
    std: Channels
    source: str  # imagenet, folder, pretrain or random
    details: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        own = {"architecture": self.architecture.as_dict(), "mean": self.mean, "std": self.std, "source": self.source}
        atomic.write_json(path, own | dict(self.details))

    @classmethod
    def read(cls, path: Path) -> Provenance:
        content = json.loads(path.read_text(encoding="utf-8"))
        spec, mean, std = spec_from_dict(content.pop("architecture")), content.pop("mean"), content.pop("std")
        return cls(spec, tuple(mean), tuple(std), content.pop("source"), content)

    def summary(self) -> dict[str, Any]:
        """Return the part that is kept beside embeddings."""
        return {"source": self.source, **{key: self.details[key] for key in ("sha256", "pretrain_on") if key in self.details}}


@dataclass(frozen=True)
class EmbeddedBackbone:
    """The backbone as `embed` used it; `calibrated`: its batch-normalisation statistics were recomputed."""

    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    weights: Mapping[str, Any]  # `Provenance.summary`
    calibrated: bool
    parameters: int

    def write(self, path: Path) -> None:
        values = asdict(self) | {"architecture": self.architecture.as_dict(), "preprocessing": self.preprocessing.as_dict()}
        atomic.write_json(path, values)

    @classmethod
    def read(cls, path: Path) -> EmbeddedBackbone:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            **content
            | {
                "architecture": spec_from_dict(content["architecture"]),
                "preprocessing": Preprocessing.from_dict(content["preprocessing"]),
                "classes": tuple(content["classes"]),
            }
        )

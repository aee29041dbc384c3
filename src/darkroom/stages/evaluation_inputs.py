"""The ingested data as `evaluate` and `diagnose` read it, and what identifies an evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from darkroom.config.params import SPLITS, Params
from darkroom.core import kept_results
from darkroom.data import arrays, manifest
from darkroom.evaluation.evaluated import Split
from darkroom.evaluation.scoring import Truth

ROOMS = ("augmentation", "evaluation", "inference", "models", "stages")  # whose code decides what is kept


@dataclass(frozen=True)
class Data:
    """The ingested data: the arrays and manifest rows of each split, the classes, and all rows of the
    manifest."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    rows: list[manifest.Row]

    def truth(self, top_k: int) -> Truth:
        """Return the labels of validation and test, and the groups of the test images."""
        groups = np.array([row["group"] for row in self.splits["test"].rows])
        return Truth({name: self.splits[name].labels for name in ("val", "test")}, groups, self.classes, top_k)


def read(ingested: Path) -> Data:
    """Return the data that `ingest` wrote."""
    rows = manifest.read(ingested / "manifest.parquet")
    splits = {}
    for name in SPLITS:
        images = [asdict(row) for row in rows if row.status == "accepted" and row.split == name]
        splits[name] = Split(*arrays.load_split(ingested / name), images)
    return Data(splits, arrays.load_classes(ingested / "classes.json"), rows)


def identity(settings: Params, sections: Iterable[str], data: Data, models: Path) -> str:
    """Return a digest of everything that decides what a stage keeps: the params of `sections`, images, checkpoints, code."""
    files = [models / name / file for name in settings.model_names() for file in ("model.json", "model.safetensors")]
    arrays_ = [array for split in data.splits.values() for array in (split.images, split.labels)]
    groups = [row["group"] for split in data.splits.values() for row in split.rows]
    content = settings.model_dump(include=set(sections))
    machine = torch.__version__, torch.backends.cpu.get_cpu_capability()
    return kept_results.identity(content, machine, groups, data.classes, kept_results.digest(*arrays_), files=files, rooms=ROOMS)

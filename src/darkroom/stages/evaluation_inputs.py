"""The ingested data as `evaluate` and `diagnose` read it, and what identifies an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from darkroom.config.params import SPLITS, Params
from darkroom.core import kept_results
from darkroom.data import arrays, image_rows, manifest
from darkroom.data.image_rows import ImageRows
from darkroom.evaluation.evaluated import Split
from darkroom.evaluation.scoring import Truth

ROOMS = ("augmentation", "evaluation", "inference", "models", "stages")  # whose code decides what is kept


@dataclass(frozen=True)
class Data:
    """The ingested data: the arrays and manifest rows of each split, the classes, and the numbers of source files by
    label, split and status."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    counts: Counter[tuple[str, str, str]]

    def truth(self, top_k: int) -> Truth:
        """Return the labels of validation and test, and the groups of the test images."""
        groups = np.unique(image_rows.column(self.splits["test"].rows, "group"), return_inverse=True)[1]
        return Truth({name: self.splits[name].labels for name in ("val", "test")}, groups, self.classes, top_k)


def read(ingested: Path) -> Data:
    """Return the data that `ingest` wrote."""
    rows = ImageRows(manifest.read_table(ingested / "manifest.parquet"))
    counts = Counter(zip(*(rows.column(name) for name in ("label", "split", "status")), strict=True))
    is_accepted, split_of = np.asarray(rows.column("status")) == "accepted", np.asarray(rows.column("split"))
    splits = {}
    for name in SPLITS:
        images = ImageRows(rows.table.filter(pa.array(is_accepted & (split_of == name))))
        splits[name] = Split(*arrays.load_split(ingested / name), images)
    return Data(splits, arrays.load_classes(ingested / "classes.json"), counts)


def identity(settings: Params, sections: Iterable[str], data: Data, models: Path) -> str:
    """Return a digest of everything that decides what a stage keeps: the params of `sections`, images, checkpoints, code."""
    files = [models / name / file for name in settings.model_names() for file in ("model.json", "model.safetensors")]
    arrays_ = [array for split in data.splits.values() for array in (split.images, split.labels)]
    groups = [group for split in data.splits.values() for group in image_rows.column(split.rows, "group")]
    content = settings.model_dump(include=set(sections))
    machine = torch.__version__, torch.backends.cpu.get_cpu_capability()
    return kept_results.identity(content, machine, groups, data.classes, kept_results.digest(*arrays_), files=files, rooms=ROOMS)

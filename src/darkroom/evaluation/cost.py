"""Latency, throughput and training time of models, which differ from run to run: no stage depends on them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config import dvc_graph
from darkroom.core import json_files

BATCH = 32
BATCHES = 5
SECONDS = 1.0  # of single images, after the first LEAST
LEAST, MOST = 20, 100  # single images
Predict = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Speed:
    """Percentiles of the milliseconds for one image alone, and images per second in batches of `BATCH`."""

    ms_p50: float
    ms_p95: float
    images_per_second: float


def measure(predict: Predict, images: np.ndarray) -> Speed:
    """Return the speed of a function of images (N, S, S, 3) uint8, warm; of `BATCHES` batches the median."""
    batch = np.ascontiguousarray(images[np.arange(BATCH) % len(images)])
    predict(batch)
    batches = [_seconds(predict, batch) for _ in range(BATCHES)]
    predict(batch[:1])
    singles: list[float] = []
    while len(singles) < LEAST or (len(singles) < MOST and sum(singles) < SECONDS):
        place = len(singles) % BATCH
        singles.append(_seconds(predict, batch[place : place + 1]))
    low, high = (float(1000 * seconds) for seconds in np.percentile(singles, [50, 95]))
    return Speed(low, high, BATCH / max(statistics.median(batches), 1e-9))


def _seconds(predict: Predict, images: np.ndarray) -> float:
    started = time.perf_counter()
    predict(images)
    return time.perf_counter() - started


def training_seconds(names: Iterable[str], folder: Path) -> float:
    """Return how long models took to train together, with embedding and head, each stage once.

    `folder` holds the seconds of each stage.
    """
    parts = {"baseline": ["baseline"], "transfer": ["embed", "transfer"], "finetune": ["embed", "transfer", "finetune"]}
    files = set()
    for name in names:
        stage, _, backbone = name.partition("/")
        files |= {folder / part / f"{backbone}.json" if backbone else folder / f"{part}.json" for part in parts[stage]}
    kind = dict[str, float]
    return sum(
        json_files.read(file, kind, partial(dvc_graph.how_to_restore, file)).get("seconds", 0.0)
        for file in sorted(files)
        if file.exists()
    )

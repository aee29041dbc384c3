"""What answers cost on this machine, `reports/cost.csv`: it differs from run to run, so that no stage may depend on it."""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("model", "ms_p50", "ms_p95", "images_per_second", "train_seconds")
BATCH = 32
BATCHES = 5
SECONDS = 1.0  # for single images, once there are LEAST
LEAST, MOST = 20, 100
Answer = Callable[[np.ndarray], Any]


def measure(answer: Answer, images: np.ndarray) -> dict[str, float]:
    """Return the percentiles of the time for one image, in milliseconds, and the images per second in batches of `BATCH`.

    `answer` takes images (N, S, S, 3) uint8; the first ones warm it up. Of batches the median of `BATCHES` counts.
    """
    many = np.ascontiguousarray(images[np.arange(BATCH) % len(images)])
    answer(many)
    batches = [_seconds(answer, many) for _ in range(BATCHES)]
    answer(many[:1])
    singles: list[float] = []
    while len(singles) < LEAST or (len(singles) < MOST and sum(singles) < SECONDS):
        at = len(singles) % BATCH
        singles.append(_seconds(answer, many[at : at + 1]))
    low, high = (float(1000 * found) for found in np.percentile(singles, [50, 95]))
    return {"ms_p50": low, "ms_p95": high, "images_per_second": BATCH / max(statistics.median(batches), 1e-9)}


def _seconds(answer: Answer, images: np.ndarray) -> float:
    started = time.perf_counter()
    answer(images)
    return time.perf_counter() - started


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the costs of models; `rows` have the keys of `COLUMNS` and maybe others."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


def training_seconds(names: Iterable[str], folder: Path) -> float:
    """Return what models took to train together, each with what it builds on: embedding and head count into fine-tuning, once.

    `folder` holds what each stage has noted.
    """
    parts = {"baseline": ["baseline"], "transfer": ["embed", "transfer"], "finetune": ["embed", "transfer", "finetune"]}
    files = set()
    for name in names:
        stage, _, backbone = name.partition("/")
        files |= {folder / part / f"{backbone}.json" if backbone else folder / f"{part}.json" for part in parts[stage]}
    return sum(json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in sorted(files) if file.exists())

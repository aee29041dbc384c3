"""Latency, throughput and training time of models, which differ from run to run: no stage depends on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from threadpoolctl import threadpool_limits

from darkroom.config import dvc_graph
from darkroom.core import json_files, platforms

BATCH = 32
BATCHES = 5  # at least; then until the two fastest agree, or SECONDS have passed
AGREE = 1.03
LEAST, MOST = 20, 100  # single images
TURNS = 3  # of two functions that are compared, at least
SECONDS, LONGEST = 1.0, 5.0  # of batches, and of single images: up to MOST, up to LEAST
TICKS = 0.02  # seconds of each core, two ticks, by which the machine's time may be wrong
BUSY = 0.25  # cores in use by other processes from which a measurement is marked
Predict = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Speed:
    """Percentiles of the milliseconds for one image alone, images per second in batches of `BATCH`, and cores that were busy.

    `busy` is the mean number of cores that other processes used meanwhile.
    """

    ms_p50: float
    ms_p95: float
    images_per_second: float
    busy: float = 0.0


@dataclass(frozen=True)
class Speedup:
    """How many times as fast one function is as another: for one image alone, and in batches of `BATCH`."""

    single: float
    batch: float


def measure(predict: Predict, images: np.ndarray, on_cpu: bool = True, alone: Predict | None = None) -> Speed:
    """Return the speed of a function of images (N, S, S, 3) uint8, warm.

    Other processes must not make a model look slow. So a batch counts with the fastest of several calls; and on a CPU, one
    thread's processor time counts where it is less: a thread does not pay for the time in which another process ran. `alone` is
    the same function on one thread, where neither torch nor BLAS decides how many it takes.
    """
    batch = _batch(images)
    predict(batch)
    load = _Load()
    batches: list[float] = []
    while len(batches) < BATCHES or (not _is_stable(batches) and sum(batches) < SECONDS):
        batches.append(_seconds(predict, batch))
    predict(batch[:1])
    singles: list[float] = []
    while len(singles) < BATCHES or len(singles) < _singles(sum(singles)):
        place = len(singles) % BATCH
        singles.append(_seconds(predict, batch[place : place + 1]))
    busy = load.others()
    fastest = min(batches)
    if on_cpu and busy >= BUSY:
        fastest = min(fastest, _one_thread(alone or predict, batch))
    low, high = (float(1000 * seconds) for seconds in np.percentile(singles, [50, 95]))
    return Speed(low, high, BATCH / max(fastest, 1e-9), round(busy, 2))


def compare(first: Predict, second: Predict, images: np.ndarray) -> Speedup:
    """Return how many times as fast the second of two functions of images (N, S, S, 3) uint8 is, warm, on a CPU.

    Each computes on the thread that calls it, and that thread's processor time counts: not the time in which another process had
    the core. They take turns, and the least time of each counts, so that load that comes or goes favours neither.
    """
    batch = _batch(images)
    return Speedup(*(_ratio(first, second, batch[:count]) for count in (1, BATCH)))


def busy_note(busy: Iterable[float]) -> str:
    """Return a sentence where other processes were busy during the measurements; else an empty text."""
    most = max(busy, default=0.0)
    if most < BUSY:
        return ""
    return f"other programs used up to {most:.1f} cores while times were measured: on a quiet machine they are shorter"


class _Load:
    """The processor time that other processes use from now on."""

    def __init__(self) -> None:
        self.started, self.machine, self.own = time.monotonic(), self._machine(), time.process_time()

    def others(self) -> float:
        """Return the mean number of cores that other processes used, at least: Linux counts a core's time in ticks."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        used = (self._machine() - self.machine) - (time.process_time() - self.own)
        return max(0.0, used - TICKS * platforms.usable_cores()) / seconds

    @staticmethod
    def _machine() -> float:
        """Return the processor time of all processes in seconds."""
        times = psutil.cpu_times()
        return float(times.user + times.system + getattr(times, "nice", 0.0))


def _batch(images: np.ndarray) -> np.ndarray:
    """Return `BATCH` images, some of them several times where there are fewer."""
    return np.ascontiguousarray(images[np.arange(BATCH) % len(images)])


def _ratio(first: Predict, second: Predict, images: np.ndarray) -> float:
    """Return the least processor time of this thread for a function of images, as a multiple of another's."""
    for predict in (first, second):
        predict(images)
    turns: list[list[float]] = []
    while len(turns) < TURNS or (len(turns) < LEAST and np.sum(turns) < SECONDS):
        turns.append([_seconds(predict, images, time.thread_time) for predict in (first, second)])
    least = np.maximum(np.min(turns, axis=0), 1e-9)
    return float(least[0] / least[1])


def _singles(seconds: float) -> int:
    """Return how many single images are timed in all, where the first ones took so long."""
    return MOST if seconds < SECONDS else LEAST if seconds < LONGEST else 0


def _is_stable(seconds: list[float]) -> bool:
    first, second = sorted(seconds)[:2]
    return second <= AGREE * first


def _one_thread(predict: Predict, batch: np.ndarray) -> float:
    """Return the least processor time in seconds of one thread for a batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            predict(batch)
            return min(_seconds(predict, batch, time.process_time) for _ in range(2))
    finally:
        torch.set_num_threads(threads)


def _seconds(predict: Predict, images: np.ndarray, clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    predict(images)
    return clock() - started


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

"""Where views are kept: written once to `views.npy`, or, where they would be too many, made by worker processes when asked for.

Both are (K, N, H, W, 3) uint8 and hold the same pixels. A folder of views has `policy.json`, `labels.npy`, and either
`views.npy` (stored) or `images.npy` (online).
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from darkroom.augmentation.views import Viewer
from darkroom.core.errors import WorkspaceError
from darkroom.core.progress import Progress

CHUNK = 32  # images of one task, so that progress shows and no worker ends long before the others
FEW = 500  # views that are made sooner than worker processes start
AHEAD = 3  # batches that online views are made ahead of time

_viewer: Viewer  # of a worker process
_images: np.ndarray


def _begin(policy: str, size: int, seed: int, images: str) -> None:
    global _viewer, _images
    import cv2

    cv2.setNumThreads(1)
    _viewer = Viewer(policy, size, seed)
    _images = np.load(images, mmap_mode="r")


def _write(file: str, start: int, stop: int) -> int:
    views = np.lib.format.open_memmap(file, "r+")
    for i in range(start, stop):
        for number, made in enumerate(_viewer.views(_images[i], range(len(views)))):
            views[number, i] = made
    return (stop - start) * len(views)


def _make(number: int, wanted: np.ndarray) -> np.ndarray:
    return np.stack([_viewer.views(_images[i], range(number, number + 1))[0] for i in wanted])


def _pool(workers: int, viewer: Viewer, images: Path, start: str) -> ProcessPoolExecutor:
    context = multiprocessing.get_context(start)
    return ProcessPoolExecutor(workers, context, _begin, (viewer.policy, viewer.size, viewer.seed, str(images)))


def write_views(images: Path, viewer: Viewer, count: int, file: Path, workers: int) -> None:
    """Write `count` views of each of the images in a file (N, H, W, 3) uint8 to a new file (K, N, H, W, 3).

    The views are the same whatever the number of worker processes.
    """
    shape = np.load(images, mmap_mode="r").shape
    np.lib.format.open_memmap(file, "w+", np.uint8, (count, *shape)).flush()
    cuts = [(i, min(i + CHUNK, shape[0])) for i in range(0, shape[0], CHUNK)]
    with Progress(f"augment ({viewer.policy})", count * shape[0], "views") as progress:
        if workers == 1 or count * shape[0] <= FEW:
            _begin(viewer.policy, viewer.size, viewer.seed, str(images))
            for cut in cuts:
                progress.advance(_write(str(file), *cut))
            return
        # fork is at once, and safe here: no thread has been started. Elsewhere than on Linux it is not
        with _pool(workers, viewer, images, "fork" if sys.platform == "linux" else "spawn") as pool:
            for done in as_completed([pool.submit(_write, str(file), *cut) for cut in cuts]):
                progress.advance(done.result())


class OnlineViews:
    """Views that are made when they are asked for, by worker processes, the batches of an epoch ahead of time."""

    def __init__(self, viewer: Viewer, count: int, images: Path, workers: int) -> None:
        self.viewer, self.file, self.workers = viewer, images, workers
        self.images = np.load(images, mmap_mode="r")
        self.shape = (count, *self.images.shape)
        self.pool: ProcessPoolExecutor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, number: int) -> OnlineView:
        return OnlineView(self, range(len(self))[number])

    def workers_at_work(self) -> ProcessPoolExecutor:
        """Return the worker processes, which start with the first batch and end with this process."""
        if self.pool is None:
            self.pool = _pool(self.workers, self.viewer, self.file, "spawn")
        return self.pool


class OnlineView:
    """One view of every image, made when it is asked for."""

    def __init__(self, whole: OnlineViews, number: int) -> None:
        self.whole, self.number = whole, number
        self.shape = whole.shape[1:]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: Any) -> np.ndarray:
        """Return the views of some images, by a slice or an array of indices, made in this process."""
        images = self.whole.images[wanted]
        numbers = range(self.number, self.number + 1)
        return np.stack([self.whole.viewer.views(image, numbers)[0] for image in images])

    def stream(self, wanted: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield batches in their order; the workers are `AHEAD` of them."""
        pool, workers = self.whole.workers_at_work(), self.whole.workers
        pending: deque[list[Future[np.ndarray]]] = deque()
        for batch in wanted:
            parts = [part for part in np.array_split(batch, workers) if len(part)]
            pending.append([pool.submit(_make, self.number, part) for part in parts])
            if len(pending) > AHEAD:
                yield np.concatenate([part.result() for part in pending.popleft()])
        while pending:
            yield np.concatenate([part.result() for part in pending.popleft()])


def load(folder: Path, workers: int) -> tuple[np.ndarray | OnlineViews, np.ndarray]:
    """Return the views (K, N, H, W, 3) uint8 of a folder, memory-mapped or made by `workers` processes, and labels (N,) int64."""
    try:
        labels = np.load(folder / "labels.npy")
        if (folder / "views.npy").exists():
            return np.load(folder / "views.npy", mmap_mode="c"), labels
        story = json.loads((folder / "policy.json").read_text())
        viewer = Viewer(story["policy"], np.load(folder / "images.npy", mmap_mode="r").shape[1], story["seed"])
        return OnlineViews(viewer, story["views"], folder / "images.npy", workers), labels
    except FileNotFoundError as error:
        raise WorkspaceError(f"{error.filename} is not there", "run `dvc repro`, which runs the stages that write it") from error


def identity(views: np.ndarray | OnlineViews, *others: np.ndarray) -> str:
    """Return the digest of views (K, N, H, W, 3) and other images (N, H, W, 3) uint8 by their content."""
    if isinstance(views, np.ndarray):
        parts, digest = list(views), xxhash.xxh3_128(str(views.shape).encode())
    else:
        parts, digest = [views.images], xxhash.xxh3_128(json.dumps([views.shape, views.viewer.as_dict()]).encode())
    for images in (*parts, *others):
        for start in range(0, len(images), 1024):
            digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()

"""Storage of views: written once to `views.npy`, or made by worker processes while training, if they would be
too many.

Both are (K, N, H, W, 3) uint8 with the same pixels. A folder of views has `policy.json`, `labels.npy`, and
either `views.npy` (stored) or `images.npy` (online).
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from darkroom.augmentation.views import ViewGenerator
from darkroom.config import dvc_graph, params
from darkroom.core import array_files, atomic, json_files
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.core.progress import Progress

with lazy_imports():
    import cv2

CHUNK = 32  # images of one task, so that progress shows and no worker ends long before the others
FEW = 500  # views that one process makes sooner than worker processes start
AHEAD = 3  # batches that online views are made ahead of time

_generator: ViewGenerator  # of a worker process
_images: np.ndarray


def _start_worker(policy: str, size: int, seed: int, images: str) -> None:
    global _generator, _images
    cv2.setNumThreads(1)
    _generator = ViewGenerator(policy, size, seed)
    _images = np.load(images, mmap_mode="r")


def _write_chunk(file: str, start: int, stop: int) -> int:
    views = np.lib.format.open_memmap(file, "r+")
    for i in range(start, stop):
        for number, view in enumerate(_generator.views(_images[i], range(len(views)))):
            views[number, i] = view
    return (stop - start) * len(views)


def _make_batch(number: int, indices: np.ndarray) -> np.ndarray:
    return np.stack([_generator.views(_images[i], range(number, number + 1))[0] for i in indices])


def _pool(workers: int, generator: ViewGenerator, images: Path, start: str) -> ProcessPoolExecutor:
    arguments = (generator.policy, generator.size, generator.seed, str(images))
    return ProcessPoolExecutor(workers, multiprocessing.get_context(start), _start_worker, arguments)


@contextmanager
def _without_opencv_threads() -> Iterator[None]:
    """End OpenCV's threads for a block that forks: a child does not have them, and would wait for them without end."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def write_views(images: Path, generator: ViewGenerator, count: int, file: Path, workers: int) -> None:
    """Write `count` views of each of the images in a file (N, H, W, 3) uint8 to a new file (K, N, H, W, 3).

    The views do not depend on the number of worker processes.
    """
    shape = np.load(images, mmap_mode="r").shape
    array_files.create(file, np.uint8, (count, *shape))
    chunks = [(i, min(i + CHUNK, shape[0])) for i in range(0, shape[0], CHUNK)]
    with Progress(f"augment ({generator.policy})", count * shape[0], "views") as progress:
        if workers == 1 or count * shape[0] <= FEW:
            _start_worker(generator.policy, generator.size, generator.seed, str(images))
            for chunk in chunks:
                progress.advance(_write_chunk(str(file), *chunk))
            return
        # fork takes no time, and is safe on Linux as long as no thread has been started
        start = "fork" if sys.platform == "linux" else "spawn"
        with _without_opencv_threads(), _pool(workers, generator, images, start) as pool:
            for done in as_completed([pool.submit(_write_chunk, str(file), *chunk) for chunk in chunks]):
                progress.advance(done.result())


class OnlineViews:
    """Views (K, N, H, W, 3) uint8 that worker processes make, the batches of an epoch ahead of time."""

    def __init__(self, generator: ViewGenerator, count: int, images: Path, workers: int) -> None:
        self.generator, self.file, self.workers = generator, images, workers
        self.images = np.load(images, mmap_mode="r")
        self.shape = (count, *self.images.shape)
        self._started: ProcessPoolExecutor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, number: int) -> OnlineView:
        return OnlineView(self, range(len(self))[number])

    @property
    def pool(self) -> ProcessPoolExecutor:
        """The worker processes, which start with the first batch and end with these views.

        Left to the interpreter's end they may be ended twice, of which concurrent.futures prints a traceback.
        """
        if self._started is None:
            self._started = _pool(self.workers, self.generator, self.file, "spawn")
            weakref.finalize(self, self._started.shutdown)
        return self._started


class OnlineView:
    """One view of every image, (N, H, W, 3) uint8, made when it is indexed."""

    def __init__(self, views: OnlineViews, number: int) -> None:
        self.views, self.number = views, number
        self.shape = views.shape[1:]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Any) -> np.ndarray:
        """Return the views of some images, by a slice or an array of indices, made in this process."""
        numbers = range(self.number, self.number + 1)
        return np.stack([self.views.generator.views(image, numbers)[0] for image in self.views.images[indices]])

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the views of each batch of indices in order; the workers are `AHEAD` of them."""
        pending: deque[list[Future[np.ndarray]]] = deque()
        for batch in batches:
            parts = [part for part in np.array_split(batch, self.views.workers) if len(part)]
            pending.append([self.views.pool.submit(_make_batch, self.number, part) for part in parts])
            if len(pending) > AHEAD:
                yield np.concatenate([part.result() for part in pending.popleft()])
        while pending:
            yield np.concatenate([part.result() for part in pending.popleft()])


@dataclass(frozen=True)
class Policy:
    """The content of `policy.json`: `pipeline` is as Albumentations serialises it, `views` their number."""

    policy: params.Policy
    seed: params.Seed
    albumentations: str
    pipeline: dict[str, Any]
    views: params.Count
    storage: str = "online"


def write_policy(folder: Path, generator: ViewGenerator, count: int, storage: str) -> None:
    atomic.write_json(folder / "policy.json", asdict(Policy(**generator.as_dict(), views=count, storage=storage)))


def load_views(folder: Path, workers: int) -> tuple[np.ndarray | OnlineViews, np.ndarray]:
    """Return the views (K, N, H, W, 3) uint8 and labels (N,) int64 of a folder; `workers` make online views."""
    try:
        remedy = partial(dvc_graph.how_to_restore, folder)
        labels = np.asarray(array_files.load(folder / "labels.npy", remedy))
        if (folder / "views.npy").exists():
            views = array_files.load(folder / "views.npy", remedy)
            if views.ndim != 5 or views.dtype != np.uint8 or labels.shape != views.shape[1:2]:
                raise json_files.damaged(folder / "views.npy", f"{views.dtype} of shape {views.shape} are no views", remedy)
            return views, labels
        policy = json_files.read(folder / "policy.json", Policy, remedy)
        images = array_files.load(folder / "images.npy", remedy, "r")
        if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise json_files.damaged(folder / "images.npy", f"{images.dtype} of shape {images.shape} are no images", remedy)
        size = images.shape[1]
        generator = ViewGenerator(policy.policy, size, policy.seed)
        return OnlineViews(generator, policy.views, folder / "images.npy", workers), labels
    except FileNotFoundError as error:
        raise WorkspaceError(f"{error.filename} does not exist", "run `dvc repro`, which runs the stages that write it") from error


def views_digest(views: np.ndarray | OnlineViews, *others: np.ndarray) -> str:
    """Return the digest of the content of views (K, N, H, W, 3) and other images (N, H, W, 3) uint8."""
    if isinstance(views, np.ndarray):
        parts, digest = list(views), xxhash.xxh3_128(str(views.shape).encode())
    else:
        parts, digest = [views.images], xxhash.xxh3_128(json.dumps([views.shape, views.generator.as_dict()]).encode())
    for images in (*parts, *others):
        for start in range(0, len(images), 1024):
            digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()

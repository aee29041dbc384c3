"""How time and memory grow with the number of images: ingest, augment, embed, transfer on 1,000, 10,000 and
50,000.

    python benchmarks/growth.py FOLDER [--mnist FOLDER] [--counts 1000 10000 50000]

The images are rendered glyphs, pieces of the folder's photographs and, with --mnist, handwritten digits (a
folder with `train-images-idx3-ubyte.gz` and its labels), all of 32 pixels. Memory is the largest resident
size of the process without the files that it maps, which the system takes back when it needs the room.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from measuring import Workspace, report

from darkroom.data import glyphs

SIDE = 32
STAGES = (
    ("ingest", ""),
    ("augment", ""),
    ("weights", "mobilenet_v3_small"),
    ("embed", "mobilenet_v3_small"),
    ("transfer", "mobilenet_v3_small"),
)


def make_images(folder: Path, mnist: Path | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` images (N, 32, 32, 3) uint8 of ten classes and their labels, in a random order."""
    draw = np.random.default_rng(0)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    share = count // (3 if mnist else 2)
    images, labels, _ = glyphs.render(share, SIDE)
    parts.append((images, labels % 10))
    if mnist:
        raw = np.frombuffer(gzip.decompress((mnist / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16).reshape(
            -1, 28, 28
        )
        digits = np.frombuffer(gzip.decompress((mnist / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)[:share]
        parts.append((np.repeat(np.pad(raw[:share], ((0, 0), (2, 2), (2, 2)))[..., None], 3, 3), digits.astype(np.int64)))
    files = sorted(path for path in folder.rglob("*.jpg"))
    names = sorted({path.parent.name for path in files})
    pieces, missing = [], count - sum(len(part[1]) for part in parts)
    each = -(-missing // len(files))
    for file in files:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        for _ in range(each):
            top, left = (int(draw.integers(0, side - 64)) for side in picture.shape[:2])
            pieces.append((cv2.resize(picture[top : top + 64, left : left + 64], (SIDE, SIDE)), names.index(file.parent.name) % 10))
    pieces = [pieces[i] for i in draw.permutation(len(pieces))[:missing]]
    parts.append((np.stack([piece for piece, _ in pieces]), np.array([label for _, label in pieces])))
    order = draw.permutation(count)
    return np.concatenate([part[0] for part in parts])[order], np.concatenate([part[1] for part in parts])[order]


def measure(place: Workspace, *command: str) -> tuple[float, float]:
    """Run a stage; return its seconds and its largest anonymous resident memory in MiB, its worker processes
    included.
    """
    alone = {"DARKROOM_TRACKING": "off"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "darkroom", *command], cwd=place.place, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=place.environment | alone)  # fmt: skip
    peak = [0]

    def record_peak() -> None:
        while process.poll() is None:
            try:
                processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                peak[0] = max(peak[0], sum(p.memory_info().rss - p.memory_info().shared for p in processes))
            except psutil.Error:
                pass
            time.sleep(0.05)

    watcher = threading.Thread(target=record_peak)
    watcher.start()
    if process.wait():
        raise SystemExit(f"darkroom {' '.join(command)} failed in {place.place}")
    taken = time.perf_counter() - started
    watcher.join()
    return taken, peak[0] / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    options = parser.parse_args()
    rows = []
    for count in options.counts:
        with tempfile.TemporaryDirectory() as scratch:
            images, labels = make_images(options.folder, options.mnist, count)
            np.savez(Path(scratch) / "source.npz", images=images, labels=labels)
            del images
            place = Workspace(Path(scratch) / "place")
            place.recipe("--set", "fetch.datasets=[]", f"ingest.source={scratch}/source.npz", "backbones=[mobilenet_v3_small]",
                         "weights.source=random", "augment.views=2", "transfer.epochs=5", "transfer.patience=5",
                         "ingest.max_quarantined=1.0", "ingest.on_conflict=keep")  # fmt: skip
            row: dict[str, object] = {"images": count}
            for stage, name in STAGES:
                taken, peak = measure(place, stage, *([name] if name else []))
                if stage != "weights":
                    row |= {f"{stage} s": round(taken, 1), "MiB" + " " * STAGES.index((stage, name)): round(peak)}
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    report("growth", rows)


if __name__ == "__main__":
    main()

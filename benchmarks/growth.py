"""How time and memory grow with the number of images, stage by stage, from ingest to evaluate and diagnose.

    python benchmarks/growth.py FOLDER [--mnist FOLDER] [--counts 1000 10000 50000]

The images are rendered glyphs, pieces of the folder's photographs and, with --mnist, handwritten digits (a
folder with `train-images-idx3-ubyte.gz` and its labels), all of 64 pixels, so that they have thumbnails. Views are
made while training. Memory is the largest resident size of the process without the files that it maps, which the
system takes back when it needs the room. Seconds are of processor time, of all processes of a stage, which other
programs hardly change. The last row has the seconds of lines through the figures at 1.28 million images. Memory is not
continued: beyond some size, arrays are on disk.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from measuring import Workspace, report

from darkroom.data import glyphs

SIDE = 64
MANY = 1_280_000  # images for which the growth is continued
STAGES = (
    ("ingest", ""),
    ("augment", ""),
    ("weights", "mobilenet_v3_small"),
    ("embed", "mobilenet_v3_small"),
    ("transfer", "mobilenet_v3_small"),
    ("finetune", "mobilenet_v3_small"),
    ("baseline", ""),
    ("cross_validate", ""),
    ("evaluate", ""),
    ("diagnose", ""),
)
UNSEEN = ("weights", "cross_validate")  # stages without work here


def make_images(folder: Path, mnist: Path | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` images (N, 64, 64, 3) uint8 of ten classes and their labels, in a random order."""
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
        grown = np.pad(raw[:share].repeat(2, 1).repeat(2, 2), ((0, 0), (4, 4), (4, 4)))
        parts.append((np.repeat(grown[..., None], 3, 3), digits.astype(np.int64)))
    files = sorted(path for path in folder.rglob("*.jpg"))
    names = sorted({path.parent.name for path in files})
    pieces, missing = [], count - sum(len(part[1]) for part in parts)
    each = -(-missing // len(files))
    for file in files:
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        for _ in range(each):
            top, left = (int(draw.integers(0, side - SIDE)) for side in picture.shape[:2])
            pieces.append((picture[top : top + SIDE, left : left + SIDE].copy(), names.index(file.parent.name) % 10))
    pieces = [pieces[i] for i in draw.permutation(len(pieces))[:missing]]
    parts.append((np.stack([piece for piece, _ in pieces]), np.array([label for _, label in pieces])))
    order = draw.permutation(count)
    return np.concatenate([part[0] for part in parts])[order], np.concatenate([part[1] for part in parts])[order]


def continued(rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the seconds of `MANY` images on lines through those of the rows, weighted so that each row counts alike."""
    counts = np.array([row["images"] for row in rows], float)
    figures = {key: np.array([row[key] for row in rows], float) for key in rows[0] if key.endswith(" s")}
    lines = {key: np.polyfit(counts, values, 1, w=1 / values.clip(1)) for key, values in figures.items()}
    return (
        dict.fromkeys(rows[0], "")
        | {"images": MANY}
        | {key: round(float(np.polyval(line, MANY)), 1) for key, line in lines.items()}
    )


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
            place.recipe(
                "--set", "fetch.datasets=[]", f"ingest.source={scratch}/source.npz", f"ingest.image_size={SIDE}",
                "ingest.max_quarantined=1.0", "ingest.on_conflict=keep", "augment.views=2", "augment.storage=online",
                "backbones=[mobilenet_v3_small]", "weights.source=random", "transfer.epochs=5", "transfer.patience=5",
                *(f"{stage}.{key}" for stage in ("finetune", "baseline") for key in ("epochs=1", "patience=1", "warmup_epochs=0")),
            )  # fmt: skip
            row: dict[str, object] = {"images": count}
            for stage, name in STAGES:
                print(f"{count:,}: {stage}", file=sys.stderr, flush=True)
                usage = place.measure("darkroom", stage, *([name] if name else []), DARKROOM_TRACKING="off")
                if stage not in UNSEEN:
                    row |= {f"{stage} s": round(usage.cpu, 1), f"{stage} MiB": round(usage.memory)}
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    report("growth", rows + [continued(rows)] * (len(rows) > 1))


if __name__ == "__main__":
    main()

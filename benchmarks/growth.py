"""How time and memory grow with the number of images, stage by stage, from ingest to evaluate and diagnose.

    python benchmarks/growth.py FOLDER [--mnist FOLDER] [--counts 1000 10000 50000] [--then STAGE…] [--views 2]

The images are rendered glyphs, pieces of the folder's photographs and, with --mnist, handwritten digits (a
folder with `train-images-idx3-ubyte.gz` and its labels), all of 64 pixels, so that they have thumbnails. Views are
made while training. Memory is the largest resident size of the process without the files that it maps, which the
system takes back when it needs the room. Seconds are of processor time, of all processes of a stage, which other
programs hardly change. With --then, all counts but the first run these stages alone; models that they do not train are
those of the first count. The last row has the seconds of lines through the figures at 1.28 million images. Memory is not
continued: beyond some size, arrays are on disk.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
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
    order = draw.permutation(count)
    pixels, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.int64)
    share, filled = count // (3 if mnist else 2), 0

    def add(images: np.ndarray, classes: np.ndarray) -> None:
        nonlocal filled
        places = order[filled : filled + len(images)]
        pixels[places], labels[places] = images[: len(places)], classes[: len(places)]
        filled += len(places)

    rendered, classes, _ = glyphs.render(share, SIDE)
    add(rendered, classes % 10)
    del rendered
    if mnist:
        raw = np.frombuffer(gzip.decompress((mnist / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16).reshape(
            -1, 28, 28
        )
        digits = np.frombuffer(gzip.decompress((mnist / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)[:share]
        grown = np.pad(raw[:share].repeat(2, 1).repeat(2, 2), ((0, 0), (4, 4), (4, 4)))
        add(np.repeat(grown[..., None], 3, 3), digits)
    files = draw.permutation(sorted(map(str, folder.rglob("*.jpg")))).tolist()
    names = sorted({Path(file).parent.name for file in files})
    each = -(-(count - filled) // len(files))
    for file in files:
        picture = cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB)
        corners = [[int(draw.integers(0, side - SIDE)) for side in picture.shape[:2]] for _ in range(each)]
        pieces = np.stack([picture[top : top + SIDE, left : left + SIDE] for top, left in corners])
        add(pieces, np.full(each, names.index(Path(file).parent.name) % 10))
    return pixels, labels


def continued(rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the seconds of `MANY` images on lines through those of the rows, weighted so that each row counts alike."""
    counts = np.array([row["images"] for row in rows], float)
    figures = {key: np.array([row.get(key, np.nan) for row in rows], float) for key in rows[0] if key.endswith((" s", "GB"))}
    result: dict[str, object] = dict.fromkeys(rows[0], "") | {"images": MANY}
    for key, values in figures.items():
        is_measured = ~np.isnan(values)
        if is_measured.sum() > 1:
            line = np.polyfit(counts[is_measured], values[is_measured], 1, w=1 / values[is_measured].clip(1))
            result[key] = round(float(np.polyval(line, MANY)), 1)
    return result


def grow(options: argparse.Namespace, count: int, models: Path, only: list[str]) -> dict[str, object]:
    """Return the figures of the stages for a count; `models` keeps the trained models, and lends those that are not trained."""
    row: dict[str, object] = {"images": count}
    with tempfile.TemporaryDirectory() as scratch:
        images, labels = make_images(options.folder, options.mnist, count)
        np.savez(Path(scratch) / "source.npz", images=images, labels=labels)
        del images
        place = Workspace(Path(scratch) / "place")
        place.recipe(
            "--set", "fetch.datasets=[]", f"ingest.source={scratch}/source.npz", f"ingest.image_size={SIDE}",
            "ingest.max_quarantined=1.0", "ingest.on_conflict=keep", f"augment.views={options.views}", "augment.storage=online",
            "backbones=[mobilenet_v3_small]", "weights.source=random", "transfer.epochs=5", "transfer.patience=5",
            *(f"{stage}.{key}" for stage in ("finetune", "baseline") for key in ("epochs=1", "patience=1", "warmup_epochs=0")),
        )  # fmt: skip
        if only:
            shutil.copytree(models, place.place / "models", dirs_exist_ok=True)
        for stage, name in STAGES:
            if only and stage not in (*only, *UNSEEN):
                continue
            print(f"{count:,}: {stage}", file=sys.stderr, flush=True)
            usage = place.measure("darkroom", stage, *([name] if name else []), DARKROOM_TRACKING="off")
            if stage not in UNSEEN:
                row |= {f"{stage} s": round(usage.cpu, 1), f"{stage} MiB": round(usage.memory)}
                print(f"{row} {usage.seconds:.0f} s", file=sys.stderr, flush=True)
        row["GB"] = round(sum(file.stat().st_blocks * 512 for file in place.place.rglob("*") if file.is_file()) / 1e9, 3)
        if not only:
            shutil.copytree(place.place / "models", models, dirs_exist_ok=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--then", nargs="+", metavar="STAGE", choices=[name for name, _ in STAGES], default=[])
    parser.add_argument("--views", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as kept:
        for count in options.counts:
            rows.append(grow(options, count, Path(kept) / "models", options.then if rows else []))
    columns = rows[0].keys()
    report("growth", [dict.fromkeys(columns, "") | row for row in rows] + [continued(rows)] * (len(rows) > 1))


if __name__ == "__main__":
    main()

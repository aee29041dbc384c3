"""A checkpoint with its held-out images, and arriving images, bright or dark."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.specs import CompactSpec
from tests.models.known_images import fit_distance

CLASSES = ("cat", "dög")
SIZE, HELD_OUT = 16, 40


def picture(rng: np.random.Generator, dark: bool = False) -> Image.Image:
    """Return a soft picture, 80 × 72, bright or dark."""
    coarse = rng.integers(0, 60, (6, 6, 3)) + (0 if dark else 190)
    return Image.fromarray(coarse.astype(np.uint8)).resize((80, 72), Image.Resampling.BICUBIC)


def arrive(start: int, count: int, dark: bool = False, place: Path = Path()) -> None:
    """Write numbered pictures to the inbox, with the time of a minute ago."""
    inbox = place / "data/inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(start + 1)
    for number in range(start, start + count):
        picture(rng, dark).save(inbox / f"{number}.png")
        os.utime(inbox / f"{number}.png", (time.time() - 60,) * 2)


def write_model(place: Path = Path()) -> None:
    """Write the checkpoint of an untrained network, `model`, and bright held-out images."""
    architecture = CompactSpec(SIZE, 4)
    preprocessing = Preprocessing(SIZE, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, len(CLASSES))
    rng = np.random.default_rng(1)
    pictures = np.stack([np.asarray(picture(rng).resize((SIZE, SIZE))) for _ in range(120)])
    distances = fit_distance(network, pictures[:60], pictures[60:])
    checkpoint = Checkpoint("baseline", architecture, preprocessing, CLASSES, {}, {}, abstention=distances)
    (place / "model").mkdir()
    save(place / "model", checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    rng = np.random.default_rng(0)
    (place / "data/ingested").mkdir(parents=True)
    (place / "data/ingested/classes.json").write_text(json.dumps(CLASSES), encoding="utf-8")
    for split in ("val", "test"):
        folder = place / "data/ingested" / split
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", np.stack([np.asarray(picture(rng).resize((SIZE, SIZE))) for _ in range(HELD_OUT)]))
        np.save(folder / "labels.npy", np.zeros(HELD_OUT, np.int64))
    rows = [Row(path=f"{i}.png", split=split, pixel_hash=f"{split} {i}") for split in ("val", "test") for i in range(HELD_OUT)]
    manifest.write(place / "data/ingested/manifest.parquet", rows)

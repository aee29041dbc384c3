"""Simulate a month of hourly checks by `darkroom monitor`: how often it raises a false alarm, and how soon it notices a change.

    python benchmarks/monitor.py FOLDER [--weights FOLDER] [--months 200] [--other FOLDER]

FOLDER has photographs, one folder per class. MobileNetV2 with a head that is fitted on one half of them classifies the other
half, and the reverse. For each month 300 reference images are drawn anew; of the others all that arrive are drawn, in cycles
through all of them, so that no picture is twice in a window. The embeddings have their 64 first principal components. An image
that arrives is followed by others of its series: crops of at least 85% of a side, up to 10% brighter or darker. They come
without times, so that near duplicates alone tell them: each later image is missed, and counts as a series of its own, with the
probability that is measured on 100 series of 3.

change      from the 8th day on: corruptions of severity 3, other photographs, or 70% of one class; `none` is a false alarm
alarms      months with an alarm after the change, in percent; `each image` is the test that counts each image of a series, at
            the level 0.01 in each check with 20 images and new ones
delay       series, and hours, from the change to the alarm; medians over the months with one
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import measuring
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from darkroom.augmentation import corruptions
from darkroom.data.decoding import decode
from darkroom.data.fingerprints import SUMMARY, fingerprint
from darkroom.data.quality import examine
from darkroom.data.resizing import fit
from darkroom.models import weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Normalize
from darkroom.models.specs import BackboneSpec
from darkroom.monitoring import drift, levels, series
from darkroom.monitoring.drift import Limits
from darkroom.monitoring.prediction_log import LogRow
from darkroom.monitoring.reference import MAX_IMAGES, Outputs

SIZE, DIMENSIONS = 96, 64
PICTURES = 300  # of a class, at most
SERIES = 100  # on which it is measured whether series are recognised
VIEWS = 5  # of an image, the first unchanged
HOURS, CHANGE = 24 * levels.DAYS, 24 * 7
MIN_IMAGES = 20
COARSE = 19  # permutations of a difference below its limit, which raises no alarm
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
CORRUPTED = ("gaussian_noise", "gaussian_blur", "brightness", "fog")
SEVERITY, ONE_CLASS = 3, 0.7


@dataclass(frozen=True)
class Population:
    """A model's outputs on each view of each image, (N, V, …)."""

    embeddings: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    def draw(self, images: np.ndarray, views: np.ndarray) -> Outputs:
        return Outputs(self.embeddings[images, views], self.predicted[images, views], self.confidence[images, views])


@dataclass(frozen=True)
class Setting:
    change: str
    per_hour: float  # series
    length: int  # images of a series
    window: int
    each_image: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="a folder of weights; without one they are random")
    parser.add_argument("--other", type=Path, help="photographs of something else, in folders")
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--windows", type=int, nargs="+", default=[100])
    options = parser.parse_args()
    started = time.perf_counter()
    drift.PERMUTATIONS = COARSE
    populations, classes, recognised, missed = prepare(options.folder, options.weights, options.other)
    print(f"{len(populations['none'].predicted)} images in the population; of {SERIES} series of 3 images copied together,")
    print(f"{recognised} are recognised whole and apart from others; {missed:.1%} of their later images are missed", flush=True)
    rows = []
    for window in options.windows:
        settings = [Setting("none", 1, length, window) for length in (1, 3, 10)]
        settings += [Setting("none", 5, 1, window), Setting("none", 20, 1, window)]
        settings += [Setting("none", 1, length, window, each_image=True) for length in (1, 3, 10)]
        settings += [Setting(change, 1, 1, window) for change in populations if change != "none"]
        for setting in settings:  # the time grows with the number of series, and of tests
            months = options.months / setting.per_hour / (5 if setting.each_image else 1)
            rows.append(measure(populations, classes, setting, missed, max(round(months), 1)))
            print(rows[-1], flush=True)
    measuring.report("monitor", rows, {"months": options.months, "seconds": time.perf_counter() - started})


def measure(populations: dict[str, Population], classes: int, setting: Setting, missed: float, months: int) -> dict[str, object]:
    alarms = [simulate(populations, classes, setting, missed, month) for month in range(months)]
    early = [alarm for alarm in alarms if alarm and alarm[0] < 0]
    late = [alarm for alarm in alarms if alarm and alarm[0] >= 0]
    is_change = setting.change != "none"
    return {
        "months": months, "change": setting.change, "series an hour": setting.per_hour, "images": setting.length,
        "window": setting.window,
        "counts": "each image" if setting.each_image else "series",
        "false alarms %": 100 * len(early if is_change else early + late) / months,
        "alarms %": 100 * len(late) / months if is_change else "",
        "delay, series": float(np.median([alarm[1] for alarm in late])) if is_change and late else "",
        "delay, hours": float(np.median([alarm[0] for alarm in late])) if is_change and late else "",
    }  # fmt: skip


def simulate(
    populations: dict[str, Population], classes: int, setting: Setting, missed: float, month: int
) -> tuple[int, int] | None:
    """Return the hours and the series from the change to the alarm, negative before it; None where there is none."""
    rng = np.random.default_rng(month)
    before, after = populations["none"], populations[setting.change]
    order = rng.permutation(len(before.predicted))
    reference = before.draw(order[:MAX_IMAGES], rng.integers(VIEWS, size=MAX_IMAGES))
    rest = order[MAX_IMAGES:]
    pictures = cycle(rng, rest)
    # other photographs have numbers of their own
    changed_pictures = cycle(rng, rest if len(after.predicted) == len(before.predicted) else np.arange(len(after.predicted)))
    favoured = cycle(rng, rest[before.predicted[rest, 0] == 0])
    arrived: list[tuple[bool, int, int]] = []  # changed, image, view
    changed_at, tested_at, tested = 0, 0, list[int]()
    for hour in range(HOURS):
        changed = setting.change != "none" and hour >= CHANGE
        if hour == CHANGE:
            changed_at = len(arrived)
        new = int(rng.poisson(setting.per_hour))
        for _ in range(new):
            one_class = changed and setting.change == "one class" and rng.random() < ONE_CLASS
            image = next(favoured if one_class else changed_pictures if changed else pictures)
            counted = setting.length if setting.each_image else 1 + rng.binomial(setting.length - 1, missed)
            views = rng.integers(VIEWS, size=counted)
            arrived += [(changed, image, int(view)) for view in views]
        if setting.each_image:
            level = 0.01 if len(arrived) >= MIN_IMAGES and new else 0.0
        else:
            recent = sum(earlier > hour - HOURS for earlier in tested)
            level = levels.level(Limits().alpha, recent) if len(arrived) - tested_at >= MIN_IMAGES else 0.0
        if level:
            tested_at = len(arrived)
            tested.append(hour)
            last = arrived[-setting.window :]
            parts = [
                (after if side else before).draw(*np.array([row[1:] for row in last if row[0] == side], int).reshape(-1, 2).T)
                for side in (False, True)
            ]
            outputs = Outputs(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(reference)))
            tests, _ = drift.compare(reference, outputs, classes, Limits(), level, seed=hour)
            if any(test.drifted for test in tests):
                return hour - CHANGE, len(arrived) - changed_at
    return None


def cycle(rng: np.random.Generator, numbers: np.ndarray) -> Iterator[int]:
    """Yield numbers in a random order, and again in another one."""
    while True:
        yield from rng.permutation(numbers).tolist()


def prepare(folder: Path, weight_folder: Path | None, other: Path | None) -> tuple[dict[str, Population], int, int, float]:
    """Return the population for each change, the number of classes, and how series are recognised (see `recognise`)."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [(path, label) for label, name in enumerate(names) for path in sorted((folder / name).iterdir())[:PICTURES]]
    pictures, labels = [read(path) for path, _ in files], np.array([label for _, label in files])
    rng = np.random.default_rng(0)
    in_half = rng.permutation(len(pictures)) % 2 == 0
    network = embedder(weight_folder)
    series_views = [make_views(picture, rng) for picture in pictures]
    views = np.stack([[square(view) for view in own] for own in series_views])
    sets = {"none": views.reshape(-1, SIZE, SIZE, 3)}
    sets |= {name: corruptions.corrupt(views[:, 0], name, SEVERITY, 0) for name in CORRUPTED}
    if other:
        sets["other photographs"] = np.stack([square(read(path)) for path in sorted(other.rglob("*.jpg"))])
    outputs = {name: network(images) for name, images in sets.items()}
    heads = [
        LogisticRegression(max_iter=500, C=0.01).fit(outputs["none"][::VIEWS][fitted], labels[fitted])
        for fitted in (~in_half, in_half)
    ]
    mean = outputs["none"].mean(0)
    axes = np.linalg.svd(outputs["none"][::VIEWS] - mean, full_matrices=False)[2][:DIMENSIONS]
    populations = {}
    for name, embeddings in outputs.items():
        each = VIEWS if name == "none" else 1
        shape = (len(embeddings) // each, each)
        both = np.stack([head.predict_proba(embeddings) for head in heads])
        halves = np.repeat(in_half, each) if name != "other photographs" else np.arange(len(embeddings)) % 2 == 0
        probabilities = np.where(halves[:, None], both[0], both[1])  # by the head that has not seen the image
        repeat = VIEWS // each  # other populations have one view, which stands for all
        populations[name] = Population(*(
            np.repeat(values.reshape(*shape, *values.shape[1:]), repeat, 1)
            for values in ((embeddings - mean) @ axes.T, probabilities.argmax(1), probabilities.max(1))
        ))  # fmt: skip
    populations["one class"] = populations["none"]
    order = rng.permutation(len(pictures))
    chosen, embeddings = order[:SERIES], populations["none"].embeddings
    recognised, missed = recognise(
        [series_views[i] for i in chosen], embeddings[chosen], series.closeness(embeddings[order[SERIES:][:MAX_IMAGES], 0])
    )
    return populations, len(names), recognised, missed


def read(path: Path) -> np.ndarray:
    upright = decode(path.read_bytes(), SIZE, "crop", (0, 0, 0)).upright
    assert upright is not None, path
    return upright


def square(picture: np.ndarray) -> np.ndarray:
    return fit(picture, SIZE, "crop", (0, 0, 0))


def make_views(picture: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the picture and others of its series."""
    views = [picture]
    height, width = picture.shape[:2]
    for _ in range(VIEWS - 1):
        share = rng.uniform(0.85, 1)
        rows, columns = int(share * height), int(share * width)
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        views.append((picture[top : top + rows, left : left + columns] * rng.uniform(0.9, 1.1)).clip(0, 255).astype(np.uint8))
    return views


def recognise(pictures: list[list[np.ndarray]], embeddings: np.ndarray, close: series.Closeness) -> tuple[int, float]:
    """Return how many series of 3, copied together, are recognised whole and apart from others, and the share of their second
    and third images that are not.

    `pictures` are the views of each, `embeddings` (N, V, D) theirs.
    """
    rows = []
    for number, views in enumerate(pictures):
        for view, embedding in zip(views[:3], embeddings[number], strict=False):
            examined = examine(view)
            assert examined is not None
            row = LogRow(datetime.now(UTC), f"{number:03}", 0, 0, "", "", "", f"{len(rows):012}".ljust(64, "0"))
            row.fingerprint = fingerprint(examined[1])[list(SUMMARY.names or ())].astype(SUMMARY).tobytes()
            row.embedding = embedding
            rows.append(row)
    series.assign(rows, [], minutes=0, close=close)
    names = [[row.series for row in rows[start : start + 3]] for start in range(0, len(rows), 3)]
    single = [own[0] for own in names if len(set(own)) == 1]
    missed = sum(len(set(own)) - 1 for own in names) / (2 * len(names))
    return sum(single.count(name) == 1 for name in single), missed


def embedder(folder: Path | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images (N, S, S, 3) uint8 to embeddings (N, D)."""
    network = TorchvisionBackbone(BackboneSpec("mobilenet_v2", SIZE), 0)
    if folder:
        file = weight_files.find(folder, "mobilenet_v2")
        weights.fill(network, weights.read(file), str(file))
    frozen = nn.Sequential(Normalize(MEAN, STD), network).eval()

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batches = (torch.from_numpy(np.ascontiguousarray(images[i : i + 64])) for i in range(0, len(images), 64))
            return np.concatenate([frozen(batch).numpy() for batch in batches])

    return embed


if __name__ == "__main__":
    main()

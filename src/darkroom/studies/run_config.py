"""What a study is made of: members that differ in one thing, the images that all of them see, and what each came to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core import atomic, locks
from darkroom.training.batches import batches

Row = dict[str, Any]
ARRAYS = ("train_images", "train_labels", "held_images", "held_labels")


@dataclass(frozen=True)
class Member:
    """One network to train. Members are compared within a panel; those with the same label differ in their seed alone.

    The seed draws the weights, the order of the images and their views: the same seed is the same order for every label.
    """

    panel: str
    label: str
    seed: int
    architecture: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    scheme: str = ""  # of models/init.py; as the architecture draws itself where there is none
    steps: int = 1
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05  # 0: as the range test finds it (finder.py)
    weight_decay: float = 0.0
    warmup: int = 0  # steps
    looks: int = 4  # at the held-out images, evenly spread over the steps, beside that before the first
    schedule: str = "cosine"  # of schedules.py
    images: int = 0  # of the training images, which are in a random order, the first so many; 0: all
    image_size: int = 0  # pixels a side that images are brought down to; 0: as they are
    policy: str = ""  # of augmentation/policies.py
    views: int = 0  # of each image, epoch e sees view e mod `views`; 0: new ones in each epoch
    on: str = ""  # what it is trained on: the study's images, or others by the name that the study gave them
    weights: str = ""  # of a torchvision network before the first step: imagenet, or a folder of files
    start: Member | None = None  # whose weights it begins with, but for the head
    blocks: int | None = None  # the last so many are trained, and the head; None: all
    embedded: bool = False  # where the head alone is trained: what lies below answers once for each image, before the first step
    ways: tuple[str, ...] = ()  # to answer for the held-out images after the last step (answering.py)

    def alike(self) -> str:
        """Return what members share that can be trained in one step: all but their names and how they begin."""
        return json.dumps({key: value for key, value in asdict(self).items() if key not in ("label", "scheme")}, sort_keys=True)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Member:
        start = content.get("start")
        return cls(**content | {"start": start and cls.from_dict(start), "ways": tuple(content.get("ways", ()))})


@dataclass(frozen=True)
class Outcome:
    """What a member came to.

    `curve` has a row for each look (step, loss and accuracy on training and held-out images), `layers` a row for each look and
    layer. `lr` is the learning rate that it was trained with, `tested` the range test behind it, if any, as pairs of rate and loss.
    `answers` holds probabilities (N, classes) for the held-out images by each of the member's ways. Only `seconds` and
    `latency` (milliseconds of one image) differ from run to run; of members that were trained in one step each has its share.
    """

    member: Member
    curve: list[Row] = field(repr=False)
    layers: list[Row] = field(repr=False)
    parameters: int
    multiply_adds: int  # of one image, forward
    seconds: float
    latency: float = 0.0
    lr: float = 0.0
    tested: list[list[float]] = field(default_factory=list, repr=False)
    answers: dict[str, list[list[float]]] = field(default_factory=dict, repr=False)

    @property
    def accuracy(self) -> float:
        return float(self.curve[-1]["val_accuracy"])

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Outcome:
        return cls(**{**content, "member": Member.from_dict(content["member"])})


@dataclass(frozen=True)
class Sample:
    """The images of a study: (N, C, S, S) uint8 and labels (N,) int64, to train on and held out."""

    train_images: np.ndarray
    train_labels: np.ndarray
    held_images: np.ndarray
    held_labels: np.ndarray
    classes: int
    digest: str

    def save(self, folder: Path) -> None:
        """Write the arrays where other processes can map them, unless they are there."""
        with locks.hold(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with atomic.new_folder(folder) as working:
                    for name in ARRAYS:
                        np.save(working / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path, classes: int, digest: str) -> Sample:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS}
        return cls(**arrays, classes=classes, digest=digest)


def steps(images: int, batch_size: int, epochs: int) -> int:
    """Return how many steps that many epochs have."""
    return epochs * len(batches(images, batch_size))


def labels(outcomes: Iterable[Outcome], panel: str) -> dict[str, list[Outcome]]:
    """Return the outcomes of a panel by their labels, in the order of the study."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.member.panel == panel:
            found.setdefault(outcome.member.label, []).append(outcome)
    return found


def panels(outcomes: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.member.panel for outcome in outcomes))


def mean_curve(outcomes: Sequence[Outcome], key: str) -> list[tuple[float, float]]:
    """Return the mean of a figure over seeds, look by look, with the mean of their steps; where one has no number there is none."""
    made = []
    for rows in zip(*(outcome.curve for outcome in outcomes), strict=True):
        values = [row[key] for row in rows]
        if None not in values:
            made.append((sum(row["step"] for row in rows) / len(rows), sum(values) / len(values)))
    return made


def layer_values(outcomes: Sequence[Outcome], key: str, last: bool = False) -> dict[str, float | None]:
    """Return the mean over seeds of a figure of each layer before the first step, or after the last one."""
    found: dict[str, list[float | None]] = {}
    for outcome in outcomes:
        step = outcome.layers[-1]["step"] if last else 0
        for row in outcome.layers:
            if row["step"] == step:
                found.setdefault(row["layer"], []).append(row[key])
    return {name: None if None in values else float(np.mean(values)) for name, values in found.items()}  # type: ignore[arg-type]

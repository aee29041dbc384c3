"""How accuracy grows while people label: linear heads on embeddings of a frozen backbone, cross-validated again and again.

Judged are the training and validation images of the source, always the same ones, each by heads that were trained without it: on
the source as its labels are now, and on the images of the inbox that have labels. So the figures of two moments differ by labels
alone. Test images are left out: they decide nothing before a model is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.core import charts
from darkroom.core.axes import Axis
from darkroom.core.charts import Chart, Series
from darkroom.core.counts import counted
from darkroom.core.errors import WorkspaceError
from darkroom.data import arrays, label_fixes, manifest
from darkroom.data.decoding import decode
from darkroom.evaluation import backbone_ranking, folds, learning_curve, significance
from darkroom.evaluation.pixel_baseline import Regression
from darkroom.inference import image_files
from darkroom.inference.classifier import Classifier

MOST = 2_000  # images of the source that are judged
BATCH = 32  # images that are embedded between two looks at whether to end
FEWEST = 20  # images with labels, below which nothing is measured
RANGE, ACCURACY = charts.NEUTRAL, 0  # colours
Interval = tuple[float, float]


@dataclass(frozen=True)
class SourceImages:
    """Images (N, S, S, 3) uint8 of the source as a backbone takes them, and their rows (N,) of the manifest."""

    images: np.ndarray
    rows: Sequence[manifest.Row]

    @classmethod
    def read(cls, ingested: Path, size: int) -> SourceImages:
        """Return the training and validation images of the last ingest, at most `MOST` of all classes.

        Raises WorkspaceError where they are missing, or are not of `size` pixels.
        """
        listed = manifest.read_images(ingested / "manifest.parquet")
        images, rows = [], []
        for split in ("train", "val"):
            pixels, _ = arrays.load_split(ingested / split)
            if pixels.shape[1] != size or len(pixels) != len(listed[split]):
                raise WorkspaceError(f"the model was not trained on the images of {ingested}", "`dvc repro` trains it again")
            images.append(pixels)
            rows += listed[split]
        chosen = learning_curve.spread(np.array([row.label for row in rows]), np.random.default_rng(0))[:MOST]
        chosen.sort()
        first = chosen < len(images[0])
        pixels = np.concatenate([images[0][chosen[first]], images[1][chosen[~first] - len(images[0])]])
        return cls(pixels, [rows[i] for i in chosen])

    @property
    def groups(self) -> list[str]:
        """Return the group of each image; images of a group share a fold."""
        return [row.group or row.path for row in self.rows]

    def labels(self, fixes: Path) -> list[str]:
        """Return the label of each image, with the corrections that have been written so far."""
        lines = label_fixes.read(fixes)
        return [label_fixes.label_of(row, lines) for row in self.rows]


@dataclass(frozen=True)
class Measured:
    """After so many labels of a session: the share of the source's images that are classified correctly, with a 95% interval; how
    much more that is than at its beginning, with the interval of a paired bootstrap, None where nothing was measured before; and
    the share of the `inbox` labelled new images, each by heads that were trained without it."""

    labels: int
    accuracy: float
    interval: Interval
    gain: float
    gain_interval: Interval | None
    inbox: int
    inbox_accuracy: float
    inbox_interval: Interval


@dataclass(frozen=True)
class Predicted:
    """Files that a head has seen, with probabilities (N, C) of classes and embeddings (N, D)."""

    classes: Sequence[str]
    files: Sequence[Path]
    probabilities: np.ndarray
    embeddings: np.ndarray


class _Labelled(NamedTuple):
    """Images with labels: numbers (N,) of classes, and embeddings (N, D)."""

    classes: list[str]
    labels: np.ndarray
    embeddings: np.ndarray


class Growth:
    """Embeddings by a frozen backbone, and what was measured with them so far, the earliest first.

    `check` is called between two parts of the work; what it raises ends the measurement.
    """

    def __init__(self, classifier: Classifier, source: SourceImages, check: Callable[[], None] = lambda: None) -> None:
        self.classifier, self.source, self.check = classifier, source, check
        self.measured: list[Measured] = []
        self._embeddings: np.ndarray | None = None
        self._of_inbox: dict[Path, np.ndarray | None] = {}  # None where an image cannot be read
        self._before: np.ndarray | None = None
        self._fold_of: np.ndarray | None = None

    def measure(self, count: int, labels: Sequence[str], new: Mapping[Path, str], seed: int = 0) -> Measured | None:
        """Measure with the labels (N,) of the source's images, and those of files of an inbox; None with too few labels.

        `count` is the number of labels that were given so far.
        """
        taught = self._labelled(labels, new)
        if taught is None:
            return None
        images, arrived = len(self.source.images), len(taught.labels) - len(self.source.images)
        # an image keeps its fold, whatever else gets a label
        fold_of = np.concatenate([self._folds(labels), np.arange(arrived) % backbone_ranking.FOLDS])
        heads = backbone_ranking.predict_folds(
            taught.embeddings, taught.labels, fold_of, len(taught.classes), seed, lambda fits: self.check()
        )
        correct, of_inbox = heads.correct[:images], heads.correct[images:]
        self._before = correct if self._before is None else self._before
        gains = correct.astype(np.float64) - self._before
        tables = significance.draws(np.array(self.source.groups), seed) if self.measured else ()
        resampled = [times.T @ gains / times.sum(0) for times in tables]
        self.measured.append(Measured(
            count, float(correct.mean()), significance.wilson(float(correct.mean()), len(correct)), float(gains.mean()),
            significance.percentiles(np.concatenate(resampled)) if resampled else None,
            arrived, float(of_inbox.mean()) if arrived else 0.0,
            significance.wilson(float(of_inbox.mean()) if arrived else 0.0, arrived),
        ))  # fmt: skip
        return self.measured[-1]

    def predict(self, files: Sequence[Path], labels: Sequence[str], new: Mapping[Path, str]) -> Predicted | None:
        """Return what a head on the same images with the same labels as those of `measure` predicts for files of the inbox, without
        those that cannot be read; None with too few labels."""
        taught = self._labelled(labels, new)
        readable = self._embed_files(files)
        if taught is None or not readable:
            return None
        chosen = np.sort(np.random.default_rng(0).permutation(len(taught.labels))[: backbone_ranking.MOST_FITTED])
        head = Regression(taught.embeddings[chosen], taught.labels[chosen], len(taught.classes))
        embeddings = np.concatenate([self._of_inbox[file] for file in readable])
        return Predicted(taught.classes, readable, head.probabilities(embeddings), embeddings)

    def _labelled(self, labels: Sequence[str], new: Mapping[Path, str]) -> _Labelled | None:
        """Return the source's images, and after them those of the inbox that can be read, with their labels; None with too few."""
        of_source = self._embed_source()
        readable = self._embed_files(list(new))
        all_labels = [*labels, *(new[file] for file in readable)]
        names = sorted(set(all_labels))
        if len(names) < 2 or len(all_labels) < FEWEST:
            return None
        embeddings = np.concatenate([of_source, *(self._of_inbox[file] for file in readable)])
        return _Labelled(names, np.array([names.index(label) for label in all_labels]), embeddings)

    def _folds(self, labels: Sequence[str]) -> np.ndarray:
        """Return the fold (N,) of each image of the source, dealt by the labels of the first measurement."""
        if self._fold_of is None:
            numbers = np.unique(np.array(labels), return_inverse=True)[1]
            self._fold_of = folds.deal(numbers, self.source.groups, backbone_ranking.FOLDS)
        return self._fold_of

    def _embed_source(self) -> np.ndarray:
        """Return the embeddings (N, D) of the source's images, which are computed once."""
        if self._embeddings is None:
            parts = [self._embed(self.source.images[i : i + BATCH]) for i in range(0, len(self.source.images), BATCH)]
            self._embeddings = np.concatenate(parts)
        return self._embeddings

    def _embed_files(self, files: Sequence[Path]) -> list[Path]:
        """Compute the embeddings of image files, each once; return those files that can be read."""
        settings = self.classifier.checkpoint.preprocessing
        unseen = [file for file in files if file not in self._of_inbox]
        for start in range(0, len(unseen), BATCH):
            pixels = {}
            for file in unseen[start : start + BATCH]:
                content, _ = image_files.read(file)
                decoded = decode(content, settings.image_size, settings.resize, settings.background) if content else None
                if decoded and decoded.pixels is not None:
                    pixels[file] = decoded.pixels
            rows = self._embed(np.stack(list(pixels.values())))[:, None] if pixels else ()
            self._of_inbox |= dict.fromkeys(unseen[start : start + BATCH]) | dict(zip(pixels, rows, strict=True))
        return [file for file in files if self._of_inbox[file] is not None]

    def _embed(self, images: np.ndarray) -> np.ndarray:
        self.check()
        return self.classifier.embed(images)[0]


def draw(measured: Sequence[Measured]) -> str:
    """Return the accuracy by the number of labels as SVG, between the ends of its interval."""
    lines = [
        Series("95% interval", [(item.labels, item.interval[0]) for item in measured], RANGE),
        Series("95% interval", [(item.labels, item.interval[1]) for item in measured], RANGE),
        Series("accuracy", [(item.labels, item.accuracy) for item in measured], ACCURACY),
    ]
    return charts.draw(Chart("accuracy on images of the source", Axis("labels given"), Axis(shares=True), lines))


def describe(measured: Sequence[Measured], images: int) -> list[str]:
    """Return in sentences what was measured, of `images` images of the source."""
    if not measured:
        return []
    last = measured[-1]
    sentences = [
        f"After {counted(last.labels, 'label')}, {last.accuracy:.1%} of {images:,} images of the source are classified correctly "
        f"(95% interval {last.interval[0]:.1%} to {last.interval[1]:.1%})."
    ]
    if last.gain_interval:
        low, high = (100 * value for value in last.gain_interval)
        chance = "" if low > 0 or high < 0 else ", which may be chance"
        sentences.append(f"Since the first figure {100 * last.gain:+.1f} points ({low:+.1f} to {high:+.1f}){chance}.")
    if last.inbox:
        low, high = last.inbox_interval
        sentences.append(
            f"Of {counted(last.inbox, 'labelled new image')} {last.inbox_accuracy:.1%} ({low:.1%} to {high:.1%}): "
            "uncertain ones are shown first, so that this is less than of all new images."
        )
    return sentences

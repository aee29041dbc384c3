"""What `evaluate` has found, and the report about it."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom import __version__
from darkroom.augmentation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from darkroom.config.params import SPLITS, Params
from darkroom.core import atomic, git
from darkroom.data import manifest
from darkroom.evaluation import embedding_map, robustness
from darkroom.evaluation.diagnostics import Diagnosed, Split
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import Details, Metrics
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.evaluation.report import heatmaps
from darkroom.evaluation.report.page import ISSUES, Evaluation, page
from darkroom.evaluation.scoring import Score
from darkroom.inference.classifier import Classifier

DECISIVE = ("params.yaml", "dvc.yaml", "code.yaml", "src", "data/label_fixes.csv", "data/splits.csv")  # results depend on them
Histories = dict[str, list[dict[str, str]]]


@dataclass(frozen=True)
class Data:
    """The ingested data: the arrays and manifest rows of each split, the classes, and all rows of the
    manifest."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    rows: list[manifest.Row]


@dataclass(frozen=True)
class Scored:
    """Results by model: scores, probabilities by split, embeddings of the mapped test images, learning curves,
    rows of the leaderboard; and the pixel baseline."""

    scores: dict[str, Score]
    probabilities: dict[str, dict[str, np.ndarray]]
    embeddings: dict[str, np.ndarray]
    histories: Histories
    rows: list[Row]
    baseline: PixelRegression


@dataclass(frozen=True)
class Results:
    """Everything that is written: the contents of the JSON files, and all rows of the leaderboard."""

    data: Data
    scored: Scored
    metrics: Metrics
    details: Details
    diagnosed: Diagnosed
    rows: list[Row]


def write(settings: Params, results: Results, classifier: Classifier, mapped: np.ndarray, rows: Path, out: Path) -> None:
    """Write the report to `out`; `classifier` is the best model, `mapped` (M,) the test images of the map, `rows` the manifest."""
    splits, metrics, issues = results.data.splits, results.metrics, results.diagnosed.issues
    test, probabilities = splits["test"], {name: item["test"] for name, item in results.scored.probabilities.items()}
    drawn, method = heatmaps.draw(classifier.network, test.images, test.labels, probabilities[metrics.best])
    doubtful = {issue.path for issue in issues[:ISSUES]}
    pictures = {
        row["path"]: np.array(split.images[i])
        for split in splits.values() for i, row in enumerate(split.rows) if row["path"] in doubtful
    }  # fmt: skip
    evaluation = Evaluation(
        metrics=metrics, details=results.details, diagnostics=results.diagnosed.diagnostics, rows=results.rows,
        histories=results.scored.histories, images=test.rows, pixels=test.images, labels=test.labels,
        probabilities=probabilities, issues=issues, pictures=pictures, heatmaps=drawn, method=method,
        embedded=embedding_map.project(mapped, results.scored.embeddings[metrics.best]),
        corrupted=_corrupted(settings, test, probabilities[metrics.best]), folder=_folder(settings, test, out),
        data=_counts(results.data.rows), origin=_origin(rows),
        params=settings.model_dump(by_alias=True, exclude={"fetch", "register_"}),
    )  # fmt: skip
    with atomic.new_file(out) as working:
        working.write_text(page(evaluation), encoding="utf-8")


def _corrupted(settings: Params, test: Split, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return by corruption one test image in all severities, unchanged first, (1 + SEVERITIES, S, S, 3).

    It is the first of the images that robustness is measured on which the best model classifies correctly, if there is one.
    """
    seed = settings.compute.seed
    measured = robustness.sample(len(test.labels), settings.evaluate.robustness_images, seed)
    correct = measured[probabilities[measured].argmax(1) == test.labels[measured]]
    image = test.images[[*correct, *measured][0]][None]
    severities = range(1, SEVERITIES + 1)
    return {
        name: np.concatenate([image, *(corrupt(image, name, severity, seed) for severity in severities)]) for name in CORRUPTIONS
    }


def _folder(settings: Params, test: Split, out: Path) -> str | None:
    """Return the way from the report to the folder with the images; None of an archive, arrays, or a folder that is gone."""
    source = Path(settings.ingest.source)
    return os.path.relpath(source, out.parent) if (source / test.rows[0]["path"]).is_file() else None


def _counts(rows: Sequence[manifest.Row]) -> dict[str, Any]:
    """Return the numbers of files, of quarantined files, and of images by split and by class and split."""
    images = Counter((row.label, row.split) for row in rows if row.status == "accepted")
    classes = {label: {split: images[label, split] for split in SPLITS} for label in sorted({label for label, _ in images})}
    splits = {split: sum(counts[split] for counts in classes.values()) for split in SPLITS}
    quarantined = sum(row.status == "quarantined" for row in rows)
    return {"files": len(rows), "quarantined": quarantined, "classes": classes, **splits}


def _origin(path: Path) -> dict[str, str]:
    """Return the commit, the data version and the versions of libraries; no time, so that equal inputs give
    an equal page."""
    commit, origin = git.commit(DECISIVE), {}
    if commit:
        origin["commit"] = commit.sha[:12]
        if commit.is_dirty:
            origin["not committed"] = f"changes of {', '.join(DECISIVE)}"
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    origin["data version"] = f"{path} md5 {digest}, as in dvc.lock"
    origin["versions"] = f"darkroom {__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    return origin

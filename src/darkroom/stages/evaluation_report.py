"""The report about what `evaluate` and `diagnose` have found."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom import __version__
from darkroom.augmentation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from darkroom.config.params import SPLITS, Params
from darkroom.core import atomic, git
from darkroom.core.counts import counted
from darkroom.data import image_rows
from darkroom.evaluation import embedding_map, leaderboard, robustness
from darkroom.evaluation.diagnostics import Diagnosed
from darkroom.evaluation.evaluated import Evaluated, Split
from darkroom.evaluation.metrics_io import Details, Metrics
from darkroom.evaluation.report import heatmaps
from darkroom.evaluation.report.page import ISSUES, Evaluation, page
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint as checkpoints
from darkroom.stages.evaluation_inputs import Data

DECISIVE = ("params.yaml", "dvc.yaml", "code.yaml", "src", "data/label_fixes.csv", "data/splits.csv")  # results depend on them


@dataclass(frozen=True)
class Results:
    """What `evaluate` and `diagnose` have found; `models` is the folder of checkpoints."""

    data: Data
    evaluated: Evaluated
    details: Details
    metrics: Metrics
    diagnosed: Diagnosed
    models: Path


def write(settings: Params, results: Results, device: torch.device, rows: Path, out: Path) -> None:
    """Write the report to `out`; `rows` is the manifest."""
    metrics, issues, evaluated = results.metrics, results.diagnosed.issues, results.evaluated
    splits, probabilities = evaluated.splits, {name: item["test"] for name, item in evaluated.probabilities.items()}
    test, classifier = splits["test"], Classifier.load(results.models / metrics.best).to(device)
    drawn, method = heatmaps.draw(classifier.network, test.images, test.labels, probabilities[metrics.best])
    doubtful = {issue.path for issue in issues[:ISSUES]}
    pictures = {
        path: np.array(split.images[i])
        for split in splits.values() for i, path in enumerate(image_rows.column(split.rows, "path")) if path in doubtful
    }  # fmt: skip
    mapped = robustness.sample(len(test.labels), embedding_map.MOST, settings.compute.seed)
    embeddings, _ = classifier.embed(test.images[mapped], settings.evaluate.batch_size)
    evaluation = Evaluation(
        metrics=metrics, details=results.details, diagnostics=results.diagnosed.diagnostics,
        rows=leaderboard.ranked([*evaluated.rows, *results.diagnosed.rows]),
        histories={name: checkpoints.read_history(results.models / name) for name in evaluated.trained},
        images=test.rows, pixels=test.images, labels=test.labels,
        probabilities=probabilities, issues=issues, pictures=pictures, heatmaps=drawn, method=method,
        embedded=embedding_map.project(mapped, embeddings),
        corrupted=_corrupted(settings, test, probabilities[metrics.best]), folder=_folder(settings, test, out),
        data=_counts(results.data.counts), origin=_origin(rows),
        params=settings.model_dump(by_alias=True, exclude={"fetch", "register_"}),
    )  # fmt: skip
    with atomic.new_file(out) as working:
        working.write_text(page(evaluation), encoding="utf-8")


def summary(diagnosed: Diagnosed) -> str:
    """Return in a few words what a person would look at in the report."""
    measured, counts = diagnosed.diagnostics.robustness, diagnosed.diagnostics.counts
    return (
        f"{counted(counts.mistakes, 'mistake')} in {counted(counts.images, 'test image')}; accuracy on corrupted images "
        f"{1 - measured.corruption_error:.3f} ({measured.accuracy:.3f} without); "
        f"{counted(len(diagnosed.issues), 'label')} may be wrong"
    )


def _corrupted(settings: Params, test: Split, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return by corruption one test image in all severities, unchanged first, (1 + SEVERITIES, S, S, 3).

    It is the first of the images that robustness is measured on which the best model classifies correctly, if there is one.
    """
    seed = settings.compute.seed
    measured = robustness.sample(len(test.labels), settings.diagnose.robustness_images, seed)
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


def _counts(files: Counter[tuple[str, str, str]]) -> dict[str, Any]:
    """Return the numbers of files, of quarantined files, and of images by split and by class and split."""
    images = Counter({(label, split): count for (label, split, status), count in files.items() if status == "accepted"})
    classes = {label: {split: images[label, split] for split in SPLITS} for label in sorted({label for label, _ in images})}
    splits = {split: sum(counts[split] for counts in classes.values()) for split in SPLITS}
    quarantined = sum(count for (_, _, status), count in files.items() if status == "quarantined")
    return {"files": files.total(), "quarantined": quarantined, "classes": classes, **splits}


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

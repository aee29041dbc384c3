"""What `evaluate` shows of its findings: the report, and the tables behind `dvc plots show`."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.config.params import Params
from darkroom.core import atomic

if TYPE_CHECKING:
    from darkroom.evaluation.report.page import Heat

MISTAKES, RIGHT = 16, 8  # of which heat maps are made
SPLITS = ("train", "val", "test")
DECIDING = ("params.yaml", "dvc.yaml", "src", "data/label_fixes.csv")  # what of the project decides a result
Rows = list[dict[str, Any]]
Histories = dict[str, list[dict[str, str]]]


def report(
    settings: Params,
    ingested: Path,
    models: Path,
    reports: Path,
    rows: Rows,
    histories: Histories,
    answers: Mapping[str, np.ndarray],
) -> None:
    """Write `report.html` from what the other files in `reports` hold; `answers` are of the test images, (N, C) by model."""
    from darkroom.data import arrays
    from darkroom.evaluation import metrics_io, predictions
    from darkroom.evaluation.report import page

    metrics, details = metrics_io.both(reports / metrics_io.METRICS, reports / metrics_io.DETAILS)
    beyond, issues = _beyond(reports / "beyond.json"), lines(reports / "label_issues.csv")
    images = predictions.images(ingested / "manifest.parquet")
    pixels, labels = arrays.load_split(ingested / "test")
    heats, method = _heats(models / metrics["best"], pixels, labels, answers[metrics["best"]])
    html = page.page(page.Findings(
        metrics=metrics, details=details, beyond=beyond, issues=issues, rows=rows, histories=histories, images=images["test"],
        pixels=pixels, labels=labels, answers=answers, heats=heats, method=method, data=_summary(ingested / "manifest.parquet"),
        pictures=_pictures(ingested, images, {row["path"] for row in issues[: page.LABELS]}),
        params=settings.model_dump(by_alias=True, exclude={"fetch", "register_"}), made=_made(ingested),
    ))  # fmt: skip
    with atomic.new_file(reports / "report.html") as working:
        working.write_text(html, encoding="utf-8")


def plots(reports: Path, histories: Histories, said: np.ndarray, labels: np.ndarray) -> None:
    """Write the tables behind `dvc plots show`: of the best model confusions, classes, reliability and robustness; learning curves.

    `said` (N,) are its predictions for the test images. `dvc plots diff` draws a line for each revision, so a plot has one line:
    of robustness the mean over corruptions, which have columns of their own.
    """
    from darkroom.evaluation import metrics_io

    metrics, details = metrics_io.both(reports / metrics_io.METRICS, reports / metrics_io.DETAILS)
    best, beyond = metrics["best"], _beyond(reports / "beyond.json")
    folder = reports / "plots"
    classes, found = details["classes"], details["models"][best]
    _table(folder / "confusion.csv", ["actual", "predicted"], ([classes[a], classes[b]] for a, b in zip(labels, said, strict=True)))
    figures = [[name, row["recall"], row["precision"], row["f1"]] for name, row in found["per_class"].items() if row["support"]]
    _table(folder / "classes.csv", ["class", "recall", "precision", "f1"], figures)
    bins = [[item["confidence"], item["accuracy"], item["count"]] for item in found["bins"] if item["count"]]
    _table(folder / "reliability.csv", ["confidence", "accuracy", "images"], bins)
    corruptions = beyond.get("robustness", {}).get("corruptions", {})
    curves = [[beyond["robustness"]["accuracy"], *item["accuracy"]] for item in corruptions.values()]
    worse = [[severity, sum(at) / len(at), *at] for severity, at in enumerate(zip(*curves, strict=True))]
    _table(folder / "robustness.csv", ["severity", "accuracy", *corruptions], worse)
    with atomic.new_folder(folder / "curves") as working:
        for name, history in histories.items():
            _write(working / f"{name.replace('/', '-')}.csv", list(history[0]), (row.values() for row in history))


def lines(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file, none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _heats(model: Path, pixels: np.ndarray, labels: np.ndarray, said: np.ndarray) -> tuple[list[Heat], str]:
    """Return heat maps of the surest mistakes and of right answers, of each class in turn, and how they were made."""
    from darkroom.evaluation.report.page import Heat
    from darkroom.inference import explanation
    from darkroom.inference.classifier import Classifier

    predicted, sure = said.argmax(1), said.max(1)
    wrong, right = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)
    turn = np.array([np.sum(labels[right[:place]] == labels[i]) for place, i in enumerate(right)], int)
    chosen = [*wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES], *right[np.lexsort((labels[right], turn))][:RIGHT]]
    if not chosen:
        return [], ""
    network = Classifier.load(model).network
    overlays, method = explanation.overlays(network, pixels[chosen], predicted[chosen].tolist())
    return [Heat(int(i), overlay) for i, overlay in zip(chosen, overlays, strict=True)], f"{method} ({explanation.METHODS[method]})"


def _beyond(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _pictures(ingested: Path, images: dict[str, Rows], wanted: set[str]) -> dict[str, np.ndarray]:
    """Return the pixels (S, S, 3) of images by their path."""
    from darkroom.data import arrays

    found = {}
    for split, rows in images.items():
        places = [(i, row["path"]) for i, row in enumerate(rows) if row["path"] in wanted]
        if places:
            pixels, _ = arrays.load_split(ingested / split)
            found.update({path: np.array(pixels[i]) for i, path in places})
    return found


def _summary(manifest: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(manifest).read(["status", "split", "label"]).to_pylist()
    held = Counter((row["label"], row["split"]) for row in rows if row["status"] == "accepted")
    classes = {label: {name: held[label, name] for name in SPLITS} for label in sorted({label for label, _ in held})}
    counts = {name: sum(of[name] for of in classes.values()) for name in SPLITS}
    return {"files": len(rows), "quarantined": sum(row["status"] == "quarantined" for row in rows), "classes": classes, **counts}


def _made(ingested: Path) -> dict[str, str]:
    """Return what the result was made with; no time, so that the same inputs make the same page."""
    import torch

    from darkroom import __version__
    from darkroom.core import git

    commit = git.commit(DECIDING)
    made = {}
    if commit:
        made["commit"] = commit.sha[:12]
        if commit.is_dirty:
            made["not committed"] = f"changes of {', '.join(DECIDING)}"
    digest = hashlib.md5((ingested / "manifest.parquet").read_bytes(), usedforsecurity=False).hexdigest()
    made["data version"] = f"{ingested / 'manifest.parquet'} md5 {digest}, as in dvc.lock"
    made["versions"] = f"darkroom {__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    return made


def _table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic.new_file(path) as working:
        _write(working, head, rows)


def _write(path: Path, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)

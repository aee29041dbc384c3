"""`reports/report.html`: a single self-contained file with the figures, mistakes and costs of all models."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from darkroom.core import charts, pages
from darkroom.core.counts import counted
from darkroom.core.errors import printable
from darkroom.data import image_rows
from darkroom.evaluation import cost, learning_curve
from darkroom.evaluation.diagnostics_file import Diagnostics
from darkroom.evaluation.embedding_map import SIDE, EmbeddingMap
from darkroom.evaluation.label_issues import LabelIssue
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, CrossValidated, Details, EnsembleMetrics, Metrics, ModelMetrics, Pair
from darkroom.evaluation.report import curves, explorer, source_files, verdict
from darkroom.evaluation.report.heatmaps import HeatMap
from darkroom.evaluation.significance import SIGNIFICANT

LIMIT = 4_900_000  # bytes of the page
PICTURES = 24  # of a gallery
MATRIX = 150  # classes of the confusion matrix, those with most mistakes
PAIRS, SLICES, ISSUES = 12, 12, 24  # shown at most
SCRIPTS = ("embedding_map.js.j2", "report.js.j2")
KINDS = {PIXEL_BASELINE: "pixels only", "ensemble": "ensemble", "views": "averaged views"}


@dataclass(frozen=True)
class Evaluation:
    """Everything that the page shows.

    `rows` are the leaderboard with all costs, `histories` the learning curves by model. `images` are rows of
    the manifest for the test images, `pixels` (N, S, S, 3) uint8 and `labels` (N,) their arrays,
    `probabilities` (N, C) those of each model, and `pictures` other images by path (S, S, 3). `heatmaps` come
    with the name of their `method`. `embedded` is the map of test images, `corrupted` has a test image in all
    severities of each corruption, unchanged first, `folder` is the way from the page to the images' files, if
    they are in a folder. `data` has the numbers of files and images, `origin` the commit, the data version and
    the versions of libraries.
    """

    metrics: Metrics
    details: Details
    diagnostics: Diagnostics
    rows: Sequence[Row]
    histories: Mapping[str, Sequence[Mapping[str, str]]]
    images: Sequence[Mapping[str, Any]] = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    probabilities: Mapping[str, np.ndarray] = field(repr=False)
    data: Mapping[str, Any]
    params: Mapping[str, Any]
    issues: Sequence[LabelIssue] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    heatmaps: Sequence[HeatMap] = ()
    method: str = ""
    embedded: EmbeddingMap | None = None
    corrupted: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    folder: str | None = None
    origin: Mapping[str, str] = field(default_factory=dict)


def page(evaluation: Evaluation) -> str:
    """Return the page: at most `LIMIT` bytes, the same for equal evaluations."""
    metrics, details, diagnostics = evaluation.metrics, evaluation.details, evaluation.diagnostics
    best, classes = metrics.best, details.classes
    best_details = details.models[best]
    headline, sentences = verdict.sentences(metrics, details)
    matrix = np.array(best_details.confusion_matrix)
    shown = most_confused(matrix, MATRIX)
    colours = {name: number for number, name in enumerate([best, *(name for name in evaluation.histories if name != best)])}
    risk_colours = colours | {PIXEL_BASELINE: charts.NEUTRAL}
    placed = evaluation.embedded
    explored = explorer.explore(
        best, evaluation.probabilities, evaluation.labels, evaluation.images, classes, placed.images if placed else ()
    )
    script = "".join(pages.text("evaluation/report", name) for name in SCRIPTS)
    values = {
        "best": best, "classes": classes, "headline": headline, "sentences": sentences, "batch": cost.BATCH,
        "busy": cost.busy_note(row.busy for row in evaluation.rows),
        "metrics": metrics, "chosen": metrics.best_figures, "diagnostics": diagnostics, "baseline": PIXEL_BASELINE,
        "rows": [_row(place, row, evaluation) for place, row in enumerate(evaluation.rows, 1)],
        "crossed": _crossed(metrics), "accuracies": _accuracies(evaluation),
        "per_class": _weakest_first(best_details.per_class), "colours": colours,
        "neutral": charts.NEUTRAL, "matrix": _shaded(matrix, shown), "shown": shown,
        "absent": [name for name in classes if not best_details.per_class[name].support],
        "never_predicted": [name for name, column in zip(classes, matrix.sum(0), strict=True) if not column],
        "reliability": [
            charts.reliability("before calibration", best_details.bins_uncalibrated),
            charts.reliability("after calibration", best_details.bins),
        ],
        "answered": curves.risk_of_best(best_details, metrics.best_figures),
        "risks": curves.risks(details.models, risk_colours), "risk_colours": risk_colours,
        "robustness": curves.robustness(diagnostics, evaluation.corrupted),
        "slices": _slices(diagnostics), "heatmaps": _heatmaps(evaluation),
        "method": evaluation.method, "always_wrong": _always_wrong(evaluation), "confused": diagnostics.confused[:PAIRS],
        "issues": _issues(evaluation), "issues_total": len(evaluation.issues),
        "accuracy_curves": curves.accuracy_curves(evaluation.histories, colours),
        "loss_curves": curves.loss_curves(evaluation.histories), "losses": curves.LOSSES, "placed": placed,
        **_learning_curve(evaluation), "costs": _costs(evaluation), "data": evaluation.data,
        "params": evaluation.params, "origin": evaluation.origin, "spread": len(shown) > 24,
        "source": printable(str(evaluation.params["ingest"]["source"])), "pixelated": evaluation.pixels.shape[1] < explorer.SMALL,
        "script": script, "digest": _script_digest(script),
    }  # fmt: skip
    explored.content.update(shown=shown, source=source_files.address(evaluation.folder, ""), map=_map(placed, explored))
    bare = _render(values, explored.content, [])
    room = LIMIT - len(bare.encode()) - 7 * len(explored.images) - 2000
    return _render(values, *explored.with_pictures(evaluation.pixels, room))


def most_confused(matrix: np.ndarray, most: int) -> list[int]:
    """Return at most `most` classes in their order: those with most mistakes, of counts (C, C)."""
    mistakes = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    return sorted(np.argsort(-mistakes, kind="stable")[:most].tolist())


def _script_digest(script: str) -> str:
    """Return the name by which a content security policy admits a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _render(values: Mapping[str, Any], content: Mapping[str, Any], sheets: Sequence[str]) -> str:
    return pages.render("evaluation/report", "report.html.j2", **values, content=explorer.embedded(content), sheets=sheets)


def _row(place: int, row: Row, evaluation: Evaluation) -> dict[str, Any]:
    """Return a row of the leaderboard with its figures, and the comparison with the best model."""
    best, figures = evaluation.metrics.best, _figures(row.model, evaluation)
    pair = verdict.between(_pairs(evaluation), row.model, best)
    compared = {}
    if pair:
        difference, _, _, p = verdict.comparison(pair, row.model)
        compared = {"difference": difference, "p": verdict.p_text(p), "significant": p < SIGNIFICANT}
    ece = figures.calibration.ece if isinstance(figures, ModelMetrics) else getattr(figures, "ece", None)
    return {
        **row.model_dump(), "rank": place, "kind": KINDS.get(row.kind, ""), "figures": figures, "ece": ece,
        "interval": figures.intervals.get("accuracy"), **compared,
    }  # fmt: skip


def _pairs(evaluation: Evaluation) -> list[Pair]:
    details, views = evaluation.details, evaluation.diagnostics.views
    return [*details.pairs, *details.ensembles.pairs, *views.pairs]


def _figures(name: str, evaluation: Evaluation) -> ModelMetrics | EnsembleMetrics:
    combined = evaluation.details.ensembles.models | evaluation.diagnostics.views.models
    return evaluation.metrics.models.get(name) or combined[name]


def _accuracies(evaluation: Evaluation) -> dict[str, Any]:
    rows = []
    for row in evaluation.rows:
        low, high = _figures(row.model, evaluation).intervals.get("accuracy") or (None, None)
        rows.append(charts.Dot(row.model, row.accuracy, low, high, chosen=row.model == evaluation.metrics.best))
    return charts.dots(rows, "test accuracy")


def _crossed(metrics: Metrics) -> list[tuple[str, CrossValidated]]:
    """Return the models with their figures of cross-validation, the lowest log loss first."""
    models = metrics.cross_validation.models if metrics.cross_validation else {}
    return sorted(models.items(), key=lambda item: (item[1].figures["log_loss"], item[0]))


def _weakest_first(per_class: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the classes by their F1; those without test images come last."""
    return sorted(per_class.items(), key=lambda item: (not item[1].support, item[1].f1, item[0]))


def _shaded(matrix: np.ndarray, shown: Sequence[int]) -> list[list[tuple[int, str]]]:
    """Return the counts between these classes, each with its share of the class's images, for shading."""
    total = matrix.sum(1)
    return [[(int(matrix[i, j]), f"{matrix[i, j] / max(total[i], 1):.2f}") for j in shown] for i in shown]


def _slices(diagnostics: Diagnostics) -> dict[str, Any] | None:
    rows = []
    for item in diagnostics.slices[:SLICES]:
        note = f"{counted(item.images, 'image')}, others {item.rest:.1%}, {verdict.p_text(item.p_holm)}"
        significant = item.p_holm < SIGNIFICANT
        rows.append(charts.Dot(f"{item.column}: {item.value}", item.accuracy, item.low, item.high, note, significant))
    return charts.dots(rows, "accuracy of slices") if rows else None


def _learning_curve(evaluation: Evaluation) -> dict[str, Any]:
    """Return the learning curve, its chart and key, and with how many images features are as good as pixels with all."""
    curve, metrics = evaluation.diagnostics.learning_curve, evaluation.metrics
    if curve is None:
        return {"curve": None}
    pixels = curve.curves[learning_curve.PIXELS][-1].mean
    return {
        "curve": curve, "enough": learning_curve.images_for(curve, learning_curve.FEATURES, pixels) if curve.embedder else None,
        "curve_chart": curves.learning_curve(curve, metrics.best, metrics.best_figures.accuracy),
        "curve_colours": curves.learning_curve_colours(curve, metrics.best),
    }  # fmt: skip


def _file(evaluation: Evaluation, path: str) -> dict[str, str]:
    """Return the name of an image as it is shown, and the address of its file."""
    return {"path": printable(path), "address": source_files.address(evaluation.folder, path)}


def _map(placed: EmbeddingMap | None, explored: explorer.Explorer) -> dict[str, Any] | None:
    """Return the map for the page's script: the places of its images among the explored ones, and on the map."""
    if placed is None:
        return None
    order = np.argsort(placed.images)
    x, y = placed.places[order].T.tolist()
    images = np.searchsorted(explored.images, placed.images[order]).tolist()
    return {"images": images, "x": x, "y": y, "side": SIDE, "colours": len(charts.PALETTE)}


def _heatmaps(evaluation: Evaluation) -> dict[bool, list[dict[str, Any]]]:
    """Return pictures with their heat maps, by whether the prediction is correct."""
    classes, probabilities = evaluation.details.classes, evaluation.probabilities[evaluation.metrics.best]
    rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for item in evaluation.heatmaps:
        label, predicted = int(evaluation.labels[item.image]), int(probabilities[item.image].argmax())
        rows[label == predicted].append({
            **_file(evaluation, evaluation.images[item.image]["path"]), "label": classes[label], "predicted": classes[predicted],
            "confidence": float(probabilities[item.image].max()), "label_probability": float(probabilities[item.image, label]),
            "picture": pages.picture(evaluation.pixels[item.image]), "heat": pages.data_uri("image/webp", item.overlay),
        })  # fmt: skip
    rows[False].sort(key=lambda row: (-row["confidence"], row["path"]))
    return rows


def _always_wrong(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the images that every model misclassifies, each with its picture."""
    places = {path: i for i, path in enumerate(image_rows.column(evaluation.images, "path"))}
    return [
        {**row.model_dump(), **_file(evaluation, row.path), "picture": pages.picture(evaluation.pixels[places[row.path]])}
        for row in evaluation.diagnostics.always_wrong[:PICTURES]
    ]


def _issues(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the most doubtful labels, each with the picture of its image."""
    return [
        {
            **vars(issue),
            **_file(evaluation, issue.path),
            "picture": pages.picture(evaluation.pictures[issue.path]),
            "fix": source_files.fix_command(issue.path, issue.suggested),
        }
        for issue in evaluation.issues[:ISSUES]
    ]


def _costs(evaluation: Evaluation) -> list[str]:
    """Return accuracy over the latency, the multiply-adds and the training time."""

    def draw(title: str, unit: str, values: Sequence[float]) -> str:
        best = evaluation.metrics.best
        rows = enumerate(zip(evaluation.rows, values, strict=True), 1)
        points = [charts.Point(str(place), row.model, value, row.accuracy, row.model == best) for place, (row, value) in rows]
        return charts.scatter(title, unit, points)

    multiply_adds = [_figures(row.model, evaluation).multiply_adds for row in evaluation.rows]
    return [
        draw("time of one image", "milliseconds", [row.ms_p50 for row in evaluation.rows]),
        draw("multiply-adds of one image", "multiply-adds", multiply_adds),
        draw("time of training", "seconds", [row.train_seconds for row in evaluation.rows]),
    ]

"""Charts of the page: learning curves, and robustness with a sample of each corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from darkroom.core import charts, pages
from darkroom.core.axes import Axis
from darkroom.core.charts import Chart, Series
from darkroom.evaluation import learning_curve as learning_curves
from darkroom.evaluation.diagnostics_file import Diagnostics, LearningCurve
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, AnsweredShare, ModelDetails, ModelMetrics

SAMPLE = 64  # pixels a side of a corrupted image
SAMPLE_QUALITY = 70  # of WebP
VALIDATION, TRAINING = 0, 1  # colours of losses
LOSSES = {"validation loss": VALIDATION, "training loss": TRAINING}
History = Sequence[Mapping[str, str]]


def accuracy_curves(histories: Mapping[str, History], colours: Mapping[str, int]) -> str:
    """Return the validation accuracy of all models over the epochs."""
    series = {name: _points(history, "val_accuracy") for name, history in histories.items()}
    drawn = {name: points for name, points in series.items() if points}
    return charts.lines("validation accuracy", drawn, "epoch", colours)


def loss_curves(histories: Mapping[str, History]) -> list[str]:
    """Return for each model its training and validation loss; a ring marks the epoch whose weights are kept."""
    drawn = []
    for name, history in histories.items():
        validation, training = (_points(history, key) for key in ("val_loss", "train_loss"))
        series = [Series("validation loss", validation, VALIDATION), Series("training loss", training, TRAINING)]
        if validation:
            best = best_epoch(history)
            point = next(point for point in validation if point[0] == best)
            series.append(Series("best epoch", [point], VALIDATION, "rings"))
        drawn.append(charts.draw(Chart(name, Axis("epoch"), Axis(log=True), series)))
    return [chart for chart in drawn if chart]


def best_epoch(history: History) -> float:
    """Return the epoch whose weights training keeps: the lowest validation loss, of equal ones the highest accuracy."""
    return float(min(history, key=lambda row: (float(row["val_loss"]), -float(row["val_accuracy"])))["epoch"])


def _points(history: History, key: str) -> list[tuple[float, float]]:
    if not all(row.get(key) for row in history):
        return []
    least = charts.TINY if key.endswith("loss") else 0.0
    return [(float(row["epoch"]), max(float(row[key]), least)) for row in history]


def risk_of_best(details: ModelDetails, figures: ModelMetrics) -> str:
    """Return the share of mistakes by the share of images that are answered; a ring marks the threshold of unknown images."""
    series = [
        Series("least sure refused first", _risk(details.answered_by_confidence), 0),
        Series("farthest refused first", _risk(details.answered_by_distance), 1),
    ]
    abstention = figures.abstention
    if abstention and abstention.accuracy is not None:
        series.append(Series("unknown refused", [(1 - abstention.refused, 1 - abstention.accuracy)], 1, "rings"))
    return _risk_chart("risk by coverage", series)


def risks(details: Mapping[str, ModelDetails], colours: Mapping[str, int]) -> str:
    """Return the same of all models, the images that each is least sure of refused first."""
    series = [Series(name, _risk(item.answered_by_confidence), colours[name]) for name, item in details.items()]
    return _risk_chart("risk by coverage, all models", series)


def _risk(shares: Sequence[AnsweredShare]) -> list[tuple[float, float]]:
    return [(share.answered, 1 - share.accuracy) for share in shares]


def _risk_chart(title: str, series: Sequence[Series]) -> str:
    return charts.draw(Chart(title, Axis("coverage"), Axis(shares=True), [item for item in series if item.points]))


def learning_curve_colours(measured: LearningCurve, best: str) -> dict[str, int]:
    """Return the colours of the inputs and of the best model."""
    return {best: 0, learning_curves.PIXELS: charts.NEUTRAL} | ({learning_curves.FEATURES: 1} if measured.embedder else {})


def learning_curve(measured: LearningCurve, best: str, accuracy: float) -> str:
    """Return test accuracy by the number of training images; a ring marks the best model, trained on all of them."""
    colours = learning_curve_colours(measured, best)
    series = [
        Series(name, list(zip(measured.images, (point.mean for point in points), strict=True)), colours[name])
        for name, points in measured.curves.items()
    ]
    series.append(Series(best, [(measured.of, accuracy)], colours[best], "rings"))
    ticks = {float(images): f"{images:,}" for images in sorted({*measured.images, measured.of})}
    axis = Axis("training images", log=True, ticks=ticks)
    return charts.draw(Chart("test accuracy", axis, Axis(shares=True), series))


def robustness(diagnostics: Diagnostics, samples: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return for each corruption its name, the accuracy over its severities, and the picture of a sample, if there is one.

    `samples` have one image in all severities, unchanged first, (1 + severities, S, S, 3) uint8.
    """
    measured = diagnostics.robustness
    colours = {diagnostics.model: 0, PIXEL_BASELINE: charts.NEUTRAL}
    drawn = []
    for key, corruption in measured.corruptions.items():
        name = key.replace("_", " ")
        series = {
            diagnostics.model: list(enumerate([measured.accuracy, *corruption.accuracy])),
            PIXEL_BASELINE: list(enumerate([measured.pixel_baseline_accuracy, *corruption.pixel_baseline])),
        }
        chart = charts.lines(name, series, "severity", colours, floor=0.0)
        drawn.append({"name": name, "chart": chart, "sample": _strip(samples[key]) if key in samples else ""})
    return drawn


def _strip(images: np.ndarray) -> str:
    """Return images (N, S, S, 3) uint8 side by side as a data URI."""
    side = min(SAMPLE, images.shape[1])
    small = [image if side == len(image) else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
    strip = cv2.cvtColor(np.concatenate(small, axis=1), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", strip, [cv2.IMWRITE_WEBP_QUALITY, SAMPLE_QUALITY])
    return pages.data_uri("image/webp", encoded.tobytes())

"""Figures of what has no checkpoint of its own: ensembles of models, and a model averaged over views of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from darkroom.evaluation import ensembles, intervals, risk_coverage
from darkroom.evaluation.evaluated import Evaluated
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import Combinations, EnsembleMetrics

TrainingSeconds = Callable[[Mapping[str, int]], float]  # of models together, by name


class Combined:
    """Figures of combinations, their rows of the leaderboard, and their pairs with the best model."""

    def __init__(self, evaluated: Evaluated, training_seconds: TrainingSeconds) -> None:
        self.evaluated, self.training_seconds = evaluated, training_seconds
        self.metrics: dict[str, EnsembleMetrics] = {}
        self.rows: list[Row] = []
        self.test: dict[str, np.ndarray] = {}
        self.resampled: dict[str, intervals.Resampled] = {}
        self._resample(evaluated.best, evaluated.probabilities[evaluated.best]["test"])

    def _resample(self, name: str, test: np.ndarray) -> Figures:
        truth = self.evaluated.truth
        figures = Figures(test, truth.labels["test"], truth.top_k)
        self.test[name], self.resampled[name] = test, intervals.resample(figures, truth.groups)
        return figures

    def add(self, name: str, kind: str, probabilities: Mapping[str, np.ndarray], members: dict[str, int], views: int) -> None:
        """Add a combination with its probabilities (N, C) by split; its costs are the sum of its members' and views'."""
        truth = self.evaluated.truth
        headlines = self._resample(name, probabilities["test"]).headlines()
        val = Figures(probabilities["val"], truth.labels["val"], truth.top_k).headlines()
        sizes = [self.evaluated.metrics[member] for member in members]
        costs = [row for row in self.evaluated.rows if row.model in members]
        self.metrics[name] = EnsembleMetrics.model_validate({
            "members": members, "views": views, **headlines,
            "aurc": risk_coverage.area(*risk_coverage.of_predictions(probabilities["test"], truth.labels["test"])),
            "val_accuracy": val["accuracy"], "val_log_loss": val["log_loss"],
            "parameters": sum(size.parameters for size in sizes),
            "multiply_adds": views * sum(size.multiply_adds for size in sizes),
            "intervals": intervals.around(headlines, self.resampled[name], truth.groups),
        })  # fmt: skip
        self.rows.append(Row(
            model=name, kind=kind, accuracy=self.metrics[name].accuracy, macro_f1=headlines["macro_f1"] or 0.0,
            aurc=self.metrics[name].aurc, parameters=self.metrics[name].parameters, train_seconds=self.training_seconds(members),
            ms_per_image=views * sum(row.ms_per_image for row in costs),
            ms_p50=views * sum(row.ms_p50 for row in costs), ms_p95=views * sum(row.ms_p95 for row in costs),
            images_per_second=1 / (views * sum(1 / row.images_per_second for row in costs)),
            busy=max(row.busy for row in costs),
        ))  # fmt: skip

    @property
    def content(self) -> Combinations:
        """The figures and pairs as the files hold them."""
        labels, groups = self.evaluated.truth.labels["test"], self.evaluated.truth.groups
        pairs = intervals.pairs(self.test, labels, self.resampled, groups, self.evaluated.best)
        return Combinations(models=self.metrics, pairs=pairs)


def of_models(evaluated: Evaluated, training_seconds: TrainingSeconds) -> Combined:
    """Return the ensembles of all trained models; none of a single one."""
    combined, trained = Combined(evaluated, training_seconds), evaluated.trained
    if len(trained) > 1:
        val = {name: evaluated.probabilities[name]["val"] for name in trained}
        members_of = {"mean": dict.fromkeys(trained, 1), "greedy": ensembles.greedy(val, evaluated.truth.labels["val"])}
        for kind, members in members_of.items():
            means = {
                split: ensembles.mean({name: evaluated.probabilities[name][split] for name in trained}, members)
                for split in ("val", "test")
            }
            combined.add(f"ensemble/{kind}", "ensemble", means, members, 1)
    return combined

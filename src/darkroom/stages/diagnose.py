"""Look beyond the average at the best model: corruptions, slices, mistakes, doubtful labels, heat maps; and the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from darkroom.augmentation import policies
from darkroom.augmentation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from darkroom.config import params
from darkroom.core import kept_results
from darkroom.core.kept_results import KeptResults
from darkroom.evaluation import cost as costs
from darkroom.evaluation import diagnostics, diagnostics_file, label_issues, leaderboard, metrics_io, predictions
from darkroom.evaluation.diagnostics import Corruptions
from darkroom.evaluation.evaluated import Evaluated
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.evaluation.report import plots
from darkroom.inference.classifier import Classifier
from darkroom.stages import evaluation_inputs, evaluation_report
from darkroom.stages.context import session
from darkroom.stages.evaluation_report import Results
from darkroom.training.devices import prepare

NAME = "diagnose"  # of what it keeps
PREDICTIONS = "predictions.parquet"


def run(ingested: Path, models: Path, cost: Path, reports: Path) -> None:
    """Write diagnostics.json, label_issues.csv, the plot of robustness and the report into `reports`, of what `evaluate` wrote."""
    inputs = [ingested / name for name in ("manifest.parquet", "val", "test")]
    inputs += [models / name for name in params.read().model_names()]
    with session(NAME, ["diagnose", "compute"], inputs) as (settings, record):
        device = prepare(settings.compute)
        data = evaluation_inputs.read(ingested)
        metrics, details = metrics_io.read_both(reports / metrics_io.METRICS, reports / metrics_io.DETAILS)
        probabilities, rows = predictions.read_all(reports / PREDICTIONS, metrics.models), leaderboard.read_with_costs(reports)
        truth = data.truth(settings.evaluate.top_k)
        evaluated = Evaluated(metrics.best, truth, data.splits, probabilities, metrics.models, rows)
        kept_results.clear(but=NAME)  # DVC has saved what came of the others
        kept = KeptResults(NAME, evaluation_inputs.identity(settings, ("augment", "compute", "diagnose"), data, models))
        train = data.splits["train"]
        diagnosed = diagnostics.diagnose(
            settings, evaluated, PixelRegression(train.images, train.labels, len(data.classes), settings.compute.seed),
            lambda name: Classifier.load(models / name).to(device),
            Corruptions({name: corruption.kind for name, corruption in CORRUPTIONS.items()}, SEVERITIES, _severities),
            policies.mirrors(settings.augment.policy), lambda names: costs.training_seconds(names, cost), kept.get,
        )  # fmt: skip
        metrics_io.write(reports / diagnostics_file.DIAGNOSTICS, diagnosed.diagnostics)
        (reports / "beyond.json").unlink(missing_ok=True)  # the name of diagnostics.json in earlier versions
        label_issues.write(reports / "label_issues.csv", diagnosed.issues)
        plots.write(reports / "plots" / "robustness.csv", plots.robustness(diagnosed.diagnostics))
        results = Results(data, evaluated, details, metrics, diagnosed, models)
        report = reports / "report.html"
        evaluation_report.write(settings, results, device, ingested / "manifest.parquet", report)
        for path, folder in ((report, ""), (reports / "label_issues.csv", ""), (reports / "plots" / "robustness.csv", "plots")):
            record.log_artifact(path, folder)
        print(f"→ {evaluation_report.summary(diagnosed)}: {report}")


def _severities(images: np.ndarray, name: str, seed: int) -> Iterator[np.ndarray]:
    """Yield the images with a corruption, mildest severity first."""
    for severity in range(1, SEVERITIES + 1):
        yield corrupt(images, name, severity, seed)

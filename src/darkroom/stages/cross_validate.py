"""Train every model again on the other folds, and predict each training and validation image by a model without it."""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.core.lazy import lazy_imports
from darkroom.stages.context import session

with lazy_imports():  # without folds the stage ends before it needs them
    from darkroom.evaluation import cross_validation
    from darkroom.stages import fold_models

SECTIONS = ["ingest", "augment", "baseline", "weights", "embed", "transfer", "finetune", "compute", "cross_validation"]
SCRATCH = Path(".darkroom/scratch/cross_validate")


def run(ingested: Path, models: Path, out: Path) -> None:
    """Write results.json into `out`, and predictions.parquet where there are folds."""
    with session("cross_validate", SECTIONS, [ingested / "train", ingested / "val"]) as (settings, record):
        with atomic.new_folder(out) as folder:
            if not settings.cross_validation:
                cross_validation.write(folder, None)
                print("cross_validate: off; `cross_validation: 5` in params.yaml trains every model on five folds")
                return
            with atomic.scratch_folder(SCRATCH) as scratch:
                predicted = fold_models.predict(settings, ingested, models, scratch)
            results = cross_validation.write(folder, predicted)
        for name, figures in results.models.items():
            key = name.replace("/", ".")
            record.log_metrics({f"{key}.cv_{metric}": value for metric, value in figures.figures.items()})
        cross_validation.show(results)

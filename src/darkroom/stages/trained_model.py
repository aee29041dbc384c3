"""The output of the stages that train: a checkpoint folder, and its part of the run's record."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from darkroom.core import atomic
from darkroom.models import checkpoint as checkpoints
from darkroom.models import weight_files
from darkroom.models.checkpoint import Checkpoint
from darkroom.tracking.records import Run
from darkroom.training.loop import FitResult


def write_model(
    out: Path, checkpoint: Checkpoint, weights: dict[str, Tensor], parameters: int, trained: FitResult, run: Run
) -> None:
    """Write a checkpoint folder atomically; record its best metrics, its description and its sha256."""
    with atomic.new_folder(out) as folder:
        checkpoints.save(folder, checkpoint, weights, parameters, trained.history)
        digest = weight_files.checkpoint_digest(folder)
    for name in ("model.json", "history.csv"):
        run.log_artifact(out / name)
    run.set_tags({"darkroom.model": checkpoint.name, "darkroom.checkpoint_sha256": digest})
    metrics = {f"best_{key}": value for key, value in trained.best.items() if key.startswith("val_")}
    metrics |= {"parameters": parameters, "temperature": checkpoint.temperature}
    run.log_checkpoint(checkpoint.name, digest, metrics, int(trained.best["epoch"]))

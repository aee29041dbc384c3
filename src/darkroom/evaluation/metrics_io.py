"""`reports/metrics.json` and `reports/details.json` as they are read; docs/evaluation.md has every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError

SCHEMA = 2
METRICS, DETAILS = "metrics.json", "details.json"
BULKY = ("per_class", "confusion_matrix", "bins", "bins_uncalibrated")  # what of a model's figures is in details.json
PROMISED = {  # at the top, and of each model
    METRICS: ({"best", "images", "models"}, {"accuracy", "calibration", "intervals", "parameters", "val_accuracy"}),
    DETAILS: ({"classes", "models", "pairs"}, {"confusion_matrix", "per_class"}),
}
REMEDY = "run `dvc repro evaluate`"


def split(models: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of the figures of models goes into metrics.json, and what into details.json."""
    headlines = {name: {key: value for key, value in found.items() if key not in BULKY} for name, found in models.items()}
    return headlines, {name: {key: found[key] for key in BULKY} for name, found in models.items()}


def both(metrics: Path, details: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `evaluate` wrote into the two files, which must be of one evaluation; errors as of `read`."""
    headlines, found = read(metrics), read(details, DETAILS)
    if headlines["models"].keys() != found["models"].keys():
        raise WorkspaceError(f"{metrics} and {details} are of two evaluations: they have other models", REMEDY)
    return headlines, found


def read(path: Path, kind: str = METRICS) -> dict[str, Any]:
    """Return what `evaluate` wrote into one of the two; WorkspaceError where it is not there, damaged or of another Darkroom."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} is not there: nothing has been evaluated yet", REMEDY) from error
    except ValueError as error:
        raise WorkspaceError(f"{path} is damaged: {error}", REMEDY) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise WorkspaceError(f"{path} has schema {schema}, this Darkroom reads {SCHEMA}", REMEDY)
    top, figures = PROMISED[kind]
    models = content.get("models")
    whole = top <= content.keys() and isinstance(models, dict) and (kind == DETAILS or content["best"] in list(models))
    if not whole or not all(isinstance(model, dict) and figures <= model.keys() for model in models.values()):
        raise WorkspaceError(f"{path} is damaged: it does not hold what docs/evaluation.md says of {kind}", REMEDY)
    return content

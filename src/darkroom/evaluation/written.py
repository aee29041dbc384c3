"""`reports/metrics.json` and `reports/details.json` as they are read; docs/evaluation.md has every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from darkroom.errors import WorkspaceError

SCHEMA = 2
METRICS, DETAILS = "metrics.json", "details.json"
BULKY = ("per_class", "confusion_matrix", "bins", "bins_uncalibrated")  # what of a model's figures is in details.json
REMEDY = "run `dvc repro evaluate`"


def split(models: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of the figures of models goes into metrics.json, and what into details.json."""
    headlines = {name: {key: value for key, value in found.items() if key not in BULKY} for name, found in models.items()}
    return headlines, {name: {key: found[key] for key in BULKY} for name, found in models.items()}


def read(path: Path) -> dict[str, Any]:
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
    return content

"""The project's own MLflow database after damage or loss: its backup, and the versions that only mlruns/ has.

A version's files lie in mlruns/ whatever happens to the database, and reports/promotion.json, also of earlier commits,
tells which version it was, its figures and whether it became the champion.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking import artifact_paths, backups, home, mlflow_client, model_package, registry, requests, uploader
from darkroom.tracking.entities import (
    CHAMPION,
    FAILED,
    INT8_ALIAS,
    MODEL,
    NONE,
    NOT_BETTER,
    PASSED,
    PROMOTION,
    RESTORED,
    SHA,
    VERDICT,
    VETOED,
)
from darkroom.tracking.home import database, is_own

DECISIONS = "reports/promotion.json"
SCRATCH = home.HOME / ".darkroom/scratch/restore"
ORIGIN = "restored from"
Decisions = Mapping[str, Mapping[str, Any]]  # contents of promotion.json by the sha256 of the checkpoint


@dataclass
class Restored:
    """What was done: the backup used, where the former database is, the versions added, and the champion."""

    backup: Path | None = None
    former: Path | None = None
    versions: list[str] = field(default_factory=list)
    champion: str = ""


def restore(name: str, decisions: Decisions, digest: Callable[[Path], str]) -> Restored | None:
    """Restore the database, and the versions of the model `name` that it lacks; None where it is whole.

    `digest` returns the sha256 of the checkpoint in a folder. Raises WorkspaceError for a database elsewhere.
    """
    file = database()
    if file is None or not is_own(file):
        raise WorkspaceError(
            f"{file or 'the database of the server'} is not this project's own", "restore it from the backups made where it is"
        )
    restored = Restored()
    with uploader.in_place():
        with hold(artifact_paths.LOCK):
            if not backups.is_empty(file) and not backups.damage(file):
                return None
            restored.former = backups.set_aside(file)
            restored.backup = backups.restore(file, mlflow_client.is_newer)
            if not restored.backup:
                mlflow_client.make_database(file)
        if restored.backup and not mlflow_client.is_current(file):
            mlflow_client.upgrade()
        client = mlflow_client.client()
        with hold(requests.LOCK):
            _add_versions(client, name, decisions, digest, restored)
    return restored


def _add_versions(client: MlflowClient, name: str, decisions: Decisions, digest: Callable[[Path], str], restored: Restored) -> None:
    """Make each packaged checkpoint in mlruns/ that is no version one, the oldest first; the last promoted one is the champion."""
    known = {item.tags.get(SHA) for item in client.search_model_versions(f"name='{name}'")}
    for folder in _packages():
        checkpoint = model_package.artifacts(folder)["checkpoint"]
        sha256 = digest(checkpoint)
        decision = decisions.get(sha256, {})
        if sha256 in known or (decision.get("registered") or {}).get("name", name) != name:
            continue
        known.add(sha256)
        model = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))["name"]
        description = f"{model}: {ORIGIN} {folder}"
        with atomic.scratch_folder(SCRATCH) as scratch:

            def save(model_id: str, source: Path = folder, target: Path = scratch / "model") -> Path | None:
                return None if source.parent.name == model_id else model_package.copy(source, target, model_id)

            version = registry.add_version(client, name, {SHA: sha256, MODEL: model, **_tags(decision)}, description, save)
        restored.versions.append(version)
        aliases = (decision.get("registered") or {}).get("aliases", [])
        if INT8_ALIAS in aliases:
            client.set_registered_model_alias(name, INT8_ALIAS, version)
        if CHAMPION in aliases:
            message = (decision.get("verdict") or {}).get("message", "it was the champion")
            registry.promote_version(client, name, version, f"{message}; {ORIGIN} {DECISIONS}", RESTORED)
            restored.champion = version


def _packages() -> list[Path]:
    """Return the folders in mlruns/ of packaged checkpoints, in the order in which they were made."""
    packages = []
    for folder in backups.packages():
        try:
            if "checkpoint" in model_package.artifacts(folder):
                packages.append(folder)
        except WorkspaceError as error:  # the others shall come back all the same
            print(error, file=sys.stderr)
    return sorted(packages, key=model_package.created)


def _tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version that promotion.json tells."""
    if not decision:
        return {}
    tags = {"val_accuracy": f"{decision['val_accuracy']:.4f}", "test_accuracy": f"{decision['accuracy']:.4f}"}
    if verdict := decision.get("verdict"):
        failed = ", ".join(check["name"] for check in verdict["checks"] if not check["passed"])
        outcome = PASSED if verdict["passed"] else VETOED if verdict["vetoed"] else NOT_BETTER
        tags |= {VERDICT: outcome, FAILED: failed or NONE, PROMOTION: verdict.get("message", "")[:4900]}
    return tags

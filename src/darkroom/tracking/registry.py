"""The registered model: each checkpoint is a version once, and an alias says which one counts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import darkroom
from darkroom.tracking import asking, store
from darkroom.tracking.locks import hold

CHALLENGER = "challenger"
SHA = "darkroom.checkpoint_sha256"
REQUIREMENTS = (
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pydantic",
    "safetensors",
    "torch",
    "torchvision",
)


@dataclass(frozen=True)
class Registered:
    """A version of the registered model, and whether it was made just now."""

    version: str
    created: bool


def register(name: str, checkpoint: Path, sha256: str, tags: dict[str, str], description: str) -> Registered:
    """Make the checkpoint a version of the model `name`, or find the version that it is already, and alias it `challenger`.

    A version is known by the sha256 of its checkpoint, so that registering twice changes nothing. The delivering process does
    it, or else this one.
    """
    question = {"name": name, "checkpoint": str(checkpoint), "sha256": sha256, "tags": tags, "description": description}
    return Registered(**(asking.ask(question, store.uri()) or perform(question)))


def perform(question: dict[str, Any]) -> dict[str, Any]:
    """Register what is asked for; return the fields of `Registered`."""
    name, sha256 = question["name"], question["sha256"]
    with store.reachable(), hold(Path(".darkroom/registry.lock")):
        client = store.client()
        known = [item for item in client.search_model_versions(f"name='{name}'") if item.tags.get(SHA) == sha256]
        if known:
            version = max(known, key=lambda item: int(item.version)).version
        else:
            tags = {**question["tags"], SHA: sha256}
            version = _create(client, name, Path(question["checkpoint"]), tags, question["description"])
        client.set_registered_model_alias(name, CHALLENGER, version)
    return {"version": str(version), "created": not known}


def _create(client: Any, name: str, checkpoint: Path, tags: dict[str, str], description: str) -> str:
    import logging
    import warnings

    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    mlflow.set_tracking_uri(store.uri())
    mlflow.set_registry_uri(store.uri())
    mlflow.set_experiment(experiment_id=store.experiment(client))
    package = Path(darkroom.__file__).parent
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # asks for an input example, which would import torch here
        logged = mlflow.pyfunc.log_model(
            name=tags["darkroom.model"].replace("/", "-"),
            python_model=str(package / "tracking" / "served.py"),
            artifacts={"checkpoint": str(checkpoint)},
            signature=ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")])),
            pip_requirements=_pinned(),
            code_paths=[str(package)],
        )
    try:
        client.create_registered_model(name, description="The best model of each Darkroom pipeline, by validation accuracy.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, logged.model_uri, run_id=logged.run_id, tags=tags, description=description, model_id=logged.model_id
    )
    return made.version


def _pinned() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in REQUIREMENTS]

"""The registered model: each checkpoint is a version once, aliases say which one counts, a ledger who was champion when.

An alias keeps no history, so every change of champion is also a tag of the registered model, which is never rewritten: whoever
shares the server shares the ledger.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.tracking import mlflow_client, model_package, requests
from darkroom.tracking.home import HOME

CHALLENGER, CHAMPION = "challenger", "champion"
SHA, MODEL = "darkroom.checkpoint_sha256", "darkroom.model"
VERDICT, DATA = "darkroom.verdict", "darkroom.data"
LEDGER = "darkroom.ledger."
ROLLBACK = "rollback"
VERSIONS = HOME / ".darkroom/versions"  # what was downloaded, by the sha256 of the checkpoint


@dataclass(frozen=True)
class Version:
    """A version of the registered model; `model` is what Darkroom calls it, `created` tells whether it was made just now.

    `made` is in seconds since 1970.
    """

    version: str
    model: str = ""
    sha256: str = ""
    created: bool = False
    made: float = 0.0
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What the checks said: passed, vetoed, or nothing where they never ran."""
        return self.tags.get(VERDICT, "")


@dataclass(frozen=True)
class Crowning:
    """A line of the ledger: when which version became champion in place of which, and why."""

    time: float
    version: str
    previous: str
    why: str
    by: str = "register"


def register(name: str, checkpoint: Path, beside: Path, sha256: str, tags: dict[str, str], description: str) -> Version:
    """Make the checkpoint a version of the model `name`, or find the version that it is already, and alias it `challenger`.

    A version is known by the sha256 of its checkpoint, so that registering twice changes nothing. In `beside` are the folders
    that `stored` names; what MLflow loads is compared with the one called CHECK before it is a version (WeightsError where it says
    something else). The delivering process does all this, or else this one.
    """
    paths = {"checkpoint": str(checkpoint.resolve()), "beside": str(beside.resolve())}
    return Version(**_done("register", name, **paths, sha256=sha256, tags=tags, description=description))


def champion(name: str) -> Version | None:
    """Return the version that is the champion, or None."""
    found = _done("champion", name)
    return Version(**found) if found["version"] else None


def crown(name: str, version: str, why: str, by: str = "register") -> None:
    """Make a version the champion, and write it into the ledger; nothing where it is the champion already."""
    _done("crown", name, version=version, why=why, by=by)


def describe(name: str, version: str, tags: dict[str, str], description: str) -> None:
    """Set tags and the description of a version."""
    _done("describe", name, version=version, tags=tags, description=description)


def fetch(name: str, version: str) -> Path:
    """Return a folder with `checkpoint` and, if the version has one, `evaluation`; it is downloaded once."""
    return Path(_done("fetch", name, version=version)["folder"])


def versions(name: str) -> list[Version]:
    """Return every version, with its aliases and tags."""
    return [Version(**item) for item in _done("versions", name)["versions"]]


def address(text: str) -> tuple[str, str] | None:
    """Return name and version or alias of `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `models:/NAME`; None for another text."""
    if not text.startswith("models:/"):
        return None
    name, _, which = text.removeprefix("models:/").replace("@", "/").partition("/")
    return name, which or CHAMPION


def pick(listed: list[Version], wanted: str, name: str) -> Version:
    """Return the version of this number or alias, or raise WorkspaceError."""
    for item in listed:
        if wanted == item.version or wanted in item.aliases:
            return item
    known = ", ".join(item.version for item in listed) or "none"
    raise WorkspaceError(f"{name} has no version {wanted} (there are {known})", "`darkroom models` lists them")


def ledger(name: str) -> list[Crowning]:
    """Return who was champion when, oldest first."""
    return [Crowning(**line) for line in _done("ledger", name)["lines"]]


def reigns(lines: list[Crowning]) -> list[str]:
    """Return the champions that a rollback can go back to, the present one last: what was rolled back from is gone."""
    made: list[str] = []
    for line in lines:
        if line.by == ROLLBACK and line.version in made:
            del made[len(made) - made[::-1].index(line.version) :]
        else:
            made.append(line.version)
    return made


def check(name: str, version: str) -> None:
    """Load a version and let it answer; raises WorkspaceError or WeightsError where it cannot."""
    import numpy as np

    from darkroom.inference.classifier import Classifier

    classifier = Classifier.load(fetch(name, version) / "checkpoint")
    size = classifier.checkpoint.preprocessing.image_size
    if not np.isfinite(classifier.logits(np.zeros((1, size, size, 3), np.uint8))).all():
        raise WeightsError(f"version {version} of {name} answers with what is no number", "choose another one: `darkroom models`")


def _done(work: str, name: str, **details: Any) -> dict[str, Any]:
    return requests.done("registry", work, name=name, **details)


def _register(
    client: Any, name: str, checkpoint: str, beside: str, sha256: str, tags: dict[str, str], description: str
) -> dict[str, Any]:
    known = [item for item in client.search_model_versions(f"name='{name}'") if item.tags.get(SHA) == sha256]
    if known:
        version = str(max(known, key=lambda item: int(item.version)).version)
    else:
        version = _create(client, name, Path(checkpoint), Path(beside), {**tags, SHA: sha256}, description)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return asdict(Version(version, tags[MODEL], sha256, not known))


def _champion(client: Any, name: str) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return asdict(Version(""))
        raise
    return asdict(Version(str(found.version), found.tags.get(MODEL, ""), found.tags.get(SHA, "")))


def _crown(client: Any, name: str, version: str, why: str, by: str) -> dict[str, Any]:
    previous = _champion(client, name)["version"]
    if previous != version:
        client.get_model_version(name, version)
        line = Crowning(time.time(), version, previous, why[:2000], by)
        client.set_registered_model_tag(name, f"{LEDGER}{time.time_ns()}", json.dumps(asdict(line)))
        client.set_registered_model_alias(name, CHAMPION, version)
    return {"previous": previous}


def _describe(client: Any, name: str, version: str, tags: dict[str, str], description: str) -> dict[str, Any]:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description)
    return {"described": True}


def _ledger(client: Any, name: str) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        tags = {}
    return {"lines": [json.loads(tags[key]) for key in sorted(tags) if key.startswith(LEDGER)]}


def _versions(client: Any, name: str) -> dict[str, Any]:
    found = client.search_model_versions(f"name='{name}'")
    aliases: dict[str, list[str]] = {}
    if found:  # a search tells no aliases
        for alias, version in client.get_registered_model(name).aliases.items():
            aliases.setdefault(str(version), []).append(alias)
    made = []
    for item in found:
        number, tags = str(item.version), dict(item.tags)
        born = item.creation_timestamp / 1000
        made.append(asdict(Version(number, tags.get(MODEL, ""), tags.get(SHA, ""), False, born, aliases.get(number, []), tags)))
    return {"versions": made}


def _fetch(client: Any, name: str, version: str) -> dict[str, Any]:
    import yaml

    mlflow = mlflow_client.library()
    known = client.get_model_version(name, version).tags.get(SHA, "")
    folder = VERSIONS / (known[:32] or f"{name}-{version}")
    if not folder.is_dir():
        working = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(working, ignore_errors=True)
        got = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(working / "whole")))
        flavors = yaml.safe_load((got / "MLmodel").read_text())["flavors"]
        kept = flavors.get("python_function", {}).get("artifacts", {})
        if "checkpoint" not in kept:
            shutil.rmtree(working)
            raise WorkspaceError(f"version {version} of {name} is no model of Darkroom's", "`darkroom models` lists those that are")
        for part in ("checkpoint", model_package.EVALUATION):
            if part in kept:
                (got / kept[part]["path"]).rename(working / part)
        shutil.rmtree(working / "whole")
        working.rename(folder)
    return {"folder": str(folder.resolve())}


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "register": _register,
    "champion": _champion,
    "crown": _crown,
    "describe": _describe,
    "fetch": _fetch,
    "ledger": _ledger,
    "versions": _versions,
}


def logged_model(client: Any, experiment: str, sha256: str) -> Any:
    """Return the newest logged model of this checkpoint, or None."""
    newest = [{"field_name": "creation_timestamp", "ascending": False}]
    found = client.search_logged_models([experiment], f"tags.`{SHA}` = '{sha256}'", max_results=1, order_by=newest)
    return found[0] if found else None


def _create(client: Any, name: str, checkpoint: Path, beside: Path, tags: dict[str, str], description: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = mlflow_client.experiment(client)
    logged = logged_model(client, experiment, tags[SHA])  # that of the run that trained it
    if logged is None:
        told = {SHA: tags[SHA], MODEL: tags[MODEL]}
        logged = client.create_logged_model(experiment, name=tags[MODEL].replace("/", "-"), tags=told)
        client.finalize_logged_model(logged.model_id, "READY")
    with tempfile.TemporaryDirectory(dir=beside) as scratch:
        folder = Path(scratch) / "model"
        model_package.save(folder, checkpoint, beside, logged.model_id)
        model_package.compare(folder, beside / model_package.CHECK)
        client.log_model_artifacts(logged.model_id, str(folder))
    try:
        client.create_registered_model(name, description="The best model of each Darkroom pipeline, by validation accuracy.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name,
        f"models:/{logged.model_id}",
        run_id=logged.source_run_id,
        tags=tags,
        description=description,
        model_id=logged.model_id,
    )
    return str(made.version)

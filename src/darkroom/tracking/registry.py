"""The registered model: its versions, their aliases, and the ledger of champions.

A checkpoint is a version once. An alias has no history, so every change of champion is also a tag of the
registered model that is never rewritten. The uploader runs the functions that take MLflow's client.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from darkroom.core import atomic, json_files, shortage
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.models import weight_files
from darkroom.tracking import home
from darkroom.tracking.entities import (
    CHALLENGER,
    CHAMPION,
    CHECK,
    EVALUATION,
    EXPORTED,
    INT8,
    INT8_VERDICT,
    MODEL,
    NOTE,
    ROLLBACK,
    SHA,
    Promotion,
    Version,
    local_time,
)
from darkroom.tracking.requests import Client, in_mlflow

with lazy_imports():
    from darkroom.tracking import mlflow_client, model_package

INT8_FILES = ("model.int8.onnx", "model.int8.json")  # of EXPORTED
DIGEST = re.compile("[0-9a-f]{64}")
LEDGER = "darkroom.ledger."  # the tags of the ledger begin with this


@in_mlflow
def register(
    client: Client, name: str, checkpoint: Path, package: Path, sha256: str, tags: dict[str, str], description: str
) -> Version:
    """Make the checkpoint a version of the model `name`, once, and give it the alias `challenger`.

    A version is identified by the sha256 of its checkpoint. `package` has the folders EXPORTED and
    EVALUATION, which become part of the version, and CHECK. Raises WeightsError where the packaged model
    predicts something else than its checkpoint.
    """
    same = [item for item in client.search_model_versions(f"name='{name}'") if item.tags.get(SHA) == sha256]
    if same:
        version = str(max(same, key=lambda item: int(item.version)).version)
    else:
        version = _create(client, name, Path(checkpoint), Path(package), {**tags, SHA: sha256}, description)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return Version(version, tags[MODEL], sha256, not same)


def _create(client: Client, name: str, checkpoint: Path, package: Path, tags: dict[str, str], description: str) -> str:
    """Package a checkpoint, compare the package with it, and make it a version."""
    with tempfile.TemporaryDirectory(dir=package) as scratch:
        save = partial(_package, Path(scratch) / "model", checkpoint, package)
        return add_version(client, name, tags, description, save)


def _package(folder: Path, checkpoint: Path, package: Path, model_id: str) -> Path:
    """Write the files of a logged model into a folder, and compare them with the checkpoint."""
    shortage.require_space(folder, shortage.folder_bytes(checkpoint) + shortage.folder_bytes(package), at_least=True)
    with shortage.noted(folder, folder.parent):  # MLflow has a second copy of the files while it writes them
        model_package.save(folder, checkpoint, package, model_id)
    model_package.compare(folder, package / CHECK)
    return folder


def add_version(client: Client, name: str, tags: dict[str, str], description: str, save: Callable[[str], Path | None]) -> str:
    """Make the logged model of a checkpoint, that of the run that trained it if there is one, a version.

    `save` takes the id of the logged model and returns the folder with its files, or None where MLflow has them.
    """
    mlflow_client.require_space()
    mlflow_client.library()  # MLflow looks for the logged model where its own tracking URI leads
    experiment = mlflow_client.experiment(client)
    logged = mlflow_client.logged_model(client, experiment, tags[SHA])
    if logged is None:
        model, own = tags[MODEL], {key: tags[key] for key in (SHA, MODEL)}
        logged = client.create_logged_model(experiment, name=mlflow_client.logged_model_name(model), tags=own)
        client.finalize_logged_model(logged.model_id, "READY")
    if folder := save(logged.model_id):
        _store_files(client, logged.model_id, folder)
    with mlflow_client.ignored("RESOURCE_ALREADY_EXISTS"):
        client.create_registered_model(name, description="The best model of each Darkroom pipeline, by validation accuracy.")
    version = client.create_model_version(  # a server with users refuses an empty run
        name, f"models:/{logged.model_id}", run_id=logged.source_run_id or None, tags=tags, description=description,
        model_id=logged.model_id,
    )  # fmt: skip
    return str(version.version)


def _store_files(client: Client, model_id: str, folder: Path) -> None:
    """Copy the files in a folder to the artifacts of a logged model, or raise the error of a full disk before."""
    location = urlsplit(client.get_logged_model(model_id).artifact_location)
    if location.scheme in ("", "file"):
        shortage.require_space(Path(unquote(location.path)), shortage.folder_bytes(folder))
    client.log_model_artifacts(model_id, str(folder))


@in_mlflow
def store_again(client: Client, name: str, version: str, checkpoint: Path, package: Path) -> None:
    """Store the files of a version again, in place of damaged ones; arguments and errors as of `register`."""
    source = client.get_model_version(name, version).source or ""
    model_id = source.removeprefix("models:/")  # as `add_version` wrote it
    with tempfile.TemporaryDirectory(dir=package) as scratch:
        folder = _package(Path(scratch) / "model", Path(checkpoint), Path(package), model_id)
        model_package.set_created(folder, client.get_logged_model(model_id).creation_timestamp)
        _store_files(client, model_id, folder)


@in_mlflow
def champion(client: Client, name: str) -> Version | None:
    """Return the version that is the champion, or None."""
    return _champion(client, name)


def _champion(client: Client, name: str) -> Version | None:
    with mlflow_client.ignored("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return _version(client.get_model_version_by_alias(name, CHAMPION), [])
    return None


@in_mlflow
def promote(client: Client, name: str, version: str, why: str, by: str = "register", overridden: str = "") -> None:
    """Make a version the champion and add a line to the ledger, unless it is the champion already."""
    promote_version(client, name, version, why, by, overridden)


def promote_version(client: Client, name: str, version: str, why: str, by: str, overridden: str = "") -> None:
    """Do what `promote` does, with MLflow's client at hand."""
    before = _champion(client, name)
    if before is None or before.version != version:
        client.get_model_version(name, version)
        line = Promotion(time.time(), version, before.version if before else "", why[:2000], by, overridden)
        client.set_registered_model_tag(name, f"{LEDGER}{time.time_ns()}", json.dumps(asdict(line)))
        client.set_registered_model_alias(name, CHAMPION, version)


@in_mlflow
def describe(client: Client, name: str, version: str, tags: dict[str, str], description: str) -> None:
    """Set tags and the description of a version, which also becomes the note of the run that trained it."""
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    run = client.update_model_version(name, version, description).run_id
    if run:
        client.set_tag(run, NOTE, f"The checkpoint of this run is version {version} of {name}.\n\n{description}")


@in_mlflow
def tag(client: Client, name: str, version: str, key: str, value: str) -> None:
    """Set one tag of a version."""
    client.set_model_version_tag(name, version, key, value)


@in_mlflow
def set_alias(client: Client, name: str, version: str, alias: str) -> None:
    """Give a version an alias, which the version that had it loses."""
    client.set_registered_model_alias(name, alias, version)


@in_mlflow
def ledger(client: Client, name: str) -> list[Promotion]:
    """Return the changes of champion, oldest first."""
    tags: dict[str, str] = {}
    with mlflow_client.ignored("RESOURCE_DOES_NOT_EXIST"):
        tags = client.get_registered_model(name).tags
    return [_promotion(name, key, tags[key]) for key in sorted(tags) if key.startswith(LEDGER)]


def _promotion(name: str, key: str, text: str) -> Promotion:
    """Return a line of the ledger."""
    try:
        return json_files.adapter(Promotion).validate_json(text)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise WorkspaceError(
            f"the tag {key} of the registered model {name} is no line of the ledger: {error.errors()[0]['msg']}",
            "delete or correct this tag in MLflow: `darkroom ui`, Model registry",
        ) from error


@in_mlflow
def versions(client: Client, name: str) -> list[Version]:
    """Return every version, with its aliases and tags."""
    listed = client.search_model_versions(f"name='{name}'")
    aliases = client.get_registered_model(name).aliases if listed else {}  # a search returns no aliases
    return [_version(item, [alias for alias, version in aliases.items() if str(version) == str(item.version)]) for item in listed]


def _version(item: Any, aliases: list[str]) -> Version:
    tags = dict(item.tags)
    return Version(
        str(item.version),
        tags.get(MODEL, ""),
        tags.get(SHA, ""),
        created_at=item.creation_timestamp / 1000,
        aliases=aliases,
        tags=tags,
    )


@in_mlflow
def fetch(client: Client, name: str, version: str) -> Path:
    """Return a folder with `checkpoint` and, if the version has them, `evaluation`, and the INT8_FILES in `exported`.

    It is downloaded once, and again where the copy is damaged. Raises WorkspaceError where the version itself is, and where what
    MLflow says of it would lead out of the folder of copies: others may write to MLflow.
    """
    tags = client.get_model_version(name, version).tags
    sha256 = tags.get(SHA, "")
    if sha256 and not DIGEST.fullmatch(sha256):
        raise WorkspaceError(
            f"the tag {SHA} of version {version} of {name} is not a SHA-256 digest: {sha256[:80]!r}",
            "somebody has changed it: `darkroom promote VERSION` makes another version the champion",
        )
    folder = home.VERSIONS / (sha256 or hashlib.sha256(f"{name}/{version}".encode()).hexdigest())[:32]
    if home.is_read_only() and not (folder.is_dir() and _is_sound(folder, sha256)):
        folder = home.OWN_CACHE / "versions" / folder.name
    if folder.is_dir() and not (_is_sound(folder, sha256) and _is_current(folder, tags)):
        shutil.rmtree(folder)
    if not folder.is_dir():
        with atomic.new_folder(folder) as working:
            whole = mlflow_client.download_model(f"models:/{name}/{version}", working / "whole")
            parts = model_package.artifacts(whole)
            if "checkpoint" not in parts:
                raise WorkspaceError(
                    f"version {version} of {name} is no model of Darkroom's", "`darkroom models` lists those that are"
                )
            for part in ("checkpoint", EVALUATION):
                if part in parts:
                    parts[part].rename(working / part)
            for file in INT8_FILES:
                if EXPORTED in parts and (parts[EXPORTED] / file).is_file():
                    (working / EXPORTED).mkdir(exist_ok=True)
                    (parts[EXPORTED] / file).rename(working / EXPORTED / file)
            shutil.rmtree(working / "whole")
            if not _is_sound(working, sha256):
                raise WorkspaceError(
                    f"version {version} of {name} is damaged in MLflow: its checkpoint is not the one that was registered, "
                    f"sha256 {sha256[:8]}…",
                    f"`darkroom register {tags.get(MODEL, 'MODEL')}` stores it again where models/ has its checkpoint; else "
                    "`darkroom promote VERSION` makes another one the champion",
                )
    if not home.is_read_only():
        os.utime(folder)  # `darkroom tidy --older-than` removes what is not used
    return folder.resolve()


def _is_current(folder: Path, tags: dict[str, str]) -> bool:
    """Tell whether a copy has the verdict on the program of 8-bit integers, where its version has one: it may be younger."""
    return INT8 not in tags or (folder / EVALUATION / INT8_VERDICT).is_file()


def is_stored(name: str, version: str) -> bool:
    """Tell whether the files of a version can be fetched as they were registered."""
    try:
        return bool(fetch(name, version))
    except WorkspaceError:
        return False


def _is_sound(folder: Path, sha256: str) -> bool:
    """Tell whether the checkpoint in a folder is the one with this sha256; without one nothing is known."""
    try:
        return not sha256 or weight_files.checkpoint_digest(folder / "checkpoint") == sha256
    except WorkspaceError:  # a file is missing
        return False


def address(text: str) -> tuple[str, str] | None:
    """Return name and version (or alias) of an address `models:/NAME/VERSION` or `models:/NAME@ALIAS`."""
    if not text.startswith("models:/"):
        return None
    name, _, version = text.removeprefix("models:/").replace("@", "/").partition("/")
    return name, version or CHAMPION


def pick(listed: list[Version], requested: str, name: str) -> Version:
    """Return the version with this number or alias, or raise WorkspaceError."""
    for item in listed:
        if requested == item.version or requested in item.aliases:
            return item
    numbers = ", ".join(item.version for item in listed) or "none"
    raise WorkspaceError(f"{name} has no version {requested} (there are {numbers})", "`darkroom models` lists them")


def champion_history(promotions: list[Promotion]) -> list[str]:
    """Return the champions that a rollback can return to, the present one last."""
    history: list[str] = []
    for line in promotions:
        if line.by == ROLLBACK and line.version in history:
            del history[len(history) - history[::-1].index(line.version) :]
        else:
            history.append(line.version)
    return history


def reason_left_to_person(promotions: list[Promotion], version: Version) -> str:
    """Return why only a person may make an existing version the champion; empty where the gate may.

    A checkout of an older state registers an older version again. It takes back neither a later champion nor
    the decision of a person.
    """
    number = version.version
    replaced = next((line for line in reversed(promotions) if line.previous == number), None)
    if replaced:
        since = local_time(replaced.time)
        return f"version {number} was the champion until {since}, when version {replaced.version} replaced it by {replaced.by}"
    if any(line.version == number for line in promotions):
        return f"version {number} was the champion before"
    last = promotions[-1] if promotions else None
    if last and last.by_person and version.created_at < last.time:
        return (
            f"version {number} existed when a person made version {last.version} the champion by {last.by}, {local_time(last.time)}"
        )
    return ""

"""Whether the versions of a registered model are another project's: several projects may use one MLflow.

A project is known by its images. Versions that share none with it are another's, unless this folder has registered them.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

from darkroom.core import strict_json
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import entities, home, registry
from darkroom.tracking.entities import Version

SHOWN = 5  # classes in a message


def identity() -> str:
    """Return what identifies this folder on this machine: its name and a digest of where it is."""
    folder = home.HOME.resolve()
    return f"{folder.name}-{hashlib.sha256(f'{socket.gethostname()}:{folder}'.encode()).hexdigest()[:8]}"


def check(
    name: str, version: Version, learnt: Collection[str], hashes: Collection[str], folder: Path, classes: Sequence[str]
) -> None:
    """Raise WorkspaceError where a version of the model `name` is another project's, before anything is registered.

    `learnt` has the pixel hashes that the version was trained and chosen on, `hashes` those of this project; `folder` has the
    version's files. In the project's own database, or where this folder has registered it, a message tells instead.
    """
    own_classes = strict_json.loads((folder / "checkpoint" / "model.json").read_text(encoding="utf-8"))["classes"]
    is_same = not set(learnt).isdisjoint(hashes) if learnt else not set(own_classes).isdisjoint(classes)
    if is_same:
        return
    number, project = version.version, version.tags.get(entities.PROJECT, "")
    shown = ", ".join(map(str, own_classes[:SHOWN])) + (", …" if len(own_classes) > SHOWN else "")
    problem = f"version {number} of {name} was trained on other images ({shown}), none of which is here"
    database = home.database()
    if project == identity() or (database and home.is_own(database)):
        print(f"register: {problem}; a new version is compared with it all the same")
        return
    raise WorkspaceError(
        f"{problem}: it is another project's{f', {project}' if project else ''}, and nothing is registered",
        f"choose a name for this one: `darkroom recipe --set {registry_setting(name)}`, then `dvc repro`; if it is the same "
        f"project, set the tag {entities.PROJECT} of version {number} to {identity()} in MLflow",
    )


def registry_setting(name: str) -> str:
    """Return the setting of a name of one's own."""
    return f"register.name={name}-{home.HOME.resolve().name}"


def of_version(name: str, version: Version) -> Path | None:
    """Return the folder of a version's files; None where it is damaged or no version of Darkroom's."""
    try:
        return registry.fetch(name, version.version)
    except WorkspaceError:
        return None

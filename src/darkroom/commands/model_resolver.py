"""The model that a command is about: a checkpoint folder, or a version that MLflow has, by alias, number or address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.core.errors import WorkspaceError

if TYPE_CHECKING:
    from darkroom.inference.classifier import Classifier


class NoChampionError(WorkspaceError):
    """There is no champion yet: the first registration that passes the gate makes one."""


def load(wanted: str) -> tuple[Classifier, dict[str, Any]]:
    """Return a classifier and what identifies it: `name`, `version` (empty for a folder), `checkpoint_sha256`, `said` in words."""
    from darkroom.inference.classifier import Classifier
    from darkroom.models import digests

    folder, name, version = Path(wanted).expanduser(), "", ""
    if not folder.joinpath("model.json").is_file():
        if folder.is_dir():
            raise WorkspaceError(f"{wanted} is not a checkpoint: it has no model.json", "name one like models/baseline")
        name, version, folder = _registered(wanted)
    classifier = Classifier.load(folder)
    said = f"version {version} of {name} ({classifier.checkpoint.name})" if version else f"{wanted} ({classifier.checkpoint.name})"
    return classifier, {
        "name": name or str(folder), "version": version, "model": classifier.checkpoint.name,
        "checkpoint_sha256": digests.checkpoint(folder), "said": said,
    }  # fmt: skip


def _registered(wanted: str) -> tuple[str, str, Path]:
    """Return name, version and checkpoint of a registered model."""
    from darkroom.config import params
    from darkroom.tracking import registry

    named = registry.address(wanted)
    name, which = named or ("", wanted)
    if not named and ("/" in wanted or wanted.startswith(".")):
        raise WorkspaceError(
            f"there is no folder {wanted}", "`ls models` shows what was trained, `darkroom models` what was registered"
        )
    name = name or params.read().register_.name
    listed = registry.versions(name)
    if which == registry.CHAMPION and not any(registry.CHAMPION in item.aliases for item in listed):
        raise NoChampionError(
            f"{name} has no champion yet" + (f" among its {len(listed)} versions" if listed else ""),
            "`dvc repro` trains and registers one; or name another model: --model models/baseline, --model challenger",
        )
    version = registry.pick(listed, which, name).version
    return name, version, registry.fetch(name, version) / "checkpoint"

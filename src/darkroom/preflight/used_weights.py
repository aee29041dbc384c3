"""Weight files of a person's that are no longer those that the stage `weights` has read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from darkroom.config import dvc_graph
from darkroom.config.params import Params
from darkroom.core import strict_json
from darkroom.core.errors import DarkroomError
from darkroom.models import weight_files
from darkroom.models.backbones import hub_folders, registry
from darkroom.preflight import downloads


def changed(settings: Params) -> list[str]:
    """Return a sentence for each weight file that has another content under the same name than when it was used."""
    sentences = []
    for name in settings.backbones:
        with suppress(DarkroomError, OSError, ValueError, KeyError, TypeError):  # not used yet, or reported by whoever reads it
            file = _file(name, settings)
            path = dvc_graph.command_options("weights", name)["provenance"]
            used = strict_json.loads(Path(path).read_text(encoding="utf-8"))
            if file and used["file"] == file.name and used["sha256"] != downloads.checked_sha256(file):
                sentences.append(f"{file.name} has changed since it was used: `weights@{name}` and later stages run again")
    return sentences


def _file(name: str, settings: Params) -> Path | None:
    """Return the file of `weights.folder` that a backbone's weights come from; None where they come from elsewhere."""
    folder, source = Path(settings.weights.folder), settings.weights.source
    if source in ("random", "pretrain"):
        return None
    if hub_folders.is_named(name):
        return hub_folders.weight_file(name, folder) if hub_folders.local(name, folder) else None
    return weight_files.find(folder, name) if registry.weights_source(name, source) == "folder" else None

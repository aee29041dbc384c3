"""A backbone with weights from elsewhere, and where they come from: a library's server, a package, a folder, the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from darkroom.models import factory, weight_files, weights
from darkroom.models.backbones import hub_folders, packages
from darkroom.models.backbones import registry as backbones
from darkroom.models.base import Backbone
from darkroom.models.checkpoint import Provenance
from darkroom.models.specs import BackboneSpec


def load(
    name: str, image_size: int, head: Literal["pooled", "classifier"], source: str, folder: Path, seed: int = 0
) -> tuple[Backbone, Provenance]:
    """Return the backbone that `backbones` in params.yaml names, and the provenance of its weights.

    `source` is `weights.source`, but not `pretrain`: imagenet, package, folder, or random, drawn from the seed. `folder` is
    `weights.folder`, which also has the weights of backbones that no package has. The details have the file's sha256. Raises
    ParamsError or WeightsError where there are none.
    """
    spec = factory.backbone_spec(name, image_size, head, folder)
    backbone = factory.build_backbone(spec, seed)
    backbone.check()
    source = backbones.weights_source(name, source)
    details: dict[str, Any] = {"seed": seed}
    if source != "random":
        file, details = _find(name, spec, source, folder)
        sha256 = weight_files.checked_sha256(file)
        state = weights.read(file)
        if "package" in details:
            state = packages.rename(state, backbone.weights(), spec.name)
        unused = weights.fill(backbone, state, str(file))
        details = details | {"file": file.name, "sha256": sha256, "left_aside": unused}
    return backbone, Provenance(spec, *weights.normalization(name, source, folder), source, details)


def _find(name: str, spec: BackboneSpec, source: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file of a backbone's weights, and where it comes from; raises WeightsError where there is none."""
    if hub_folders.is_named(name):
        licence = hub_folders.read(name, folder).license
        place = "" if hub_folders.local(name, folder) else f"hf-hub:{name.removeprefix(hub_folders.PREFIX)}"
        origin = {key: value for key, value in (("url", place), ("license", licence)) if value}
        return hub_folders.weight_file(name, folder), origin
    if source == "imagenet":
        return backbones.load(spec.source).download(spec.name)
    if source == "package":
        return packages.find(spec.source, spec.name), packages.provenance(spec.source, spec.name)
    return weight_files.find(folder, name), {}

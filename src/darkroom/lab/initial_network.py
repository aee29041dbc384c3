"""The weights that a model began with, made again from the record of its training, or read from where it started.

The record is dvc.lock: the stage that wrote the model's folder, with its params and inputs. A folder is
recognised by its content, so that a copy is known too and one that was trained by hand is not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from darkroom.config import dvc_graph
from darkroom.config.dvc_graph import LockedStage
from darkroom.core.errors import ParamsError
from darkroom.lab.networks import InspectedNetwork
from darkroom.models import checkpoint as checkpoints
from darkroom.models import factory
from darkroom.models.base import Network

SEED = "compute.seed"  # the param that draws a network's first weights


@dataclass(frozen=True)
class InitialNetwork:
    """A network before training, in evaluation mode, and where its weights come from."""

    network: Network
    description: str


def initial_network(inspected: InspectedNetwork) -> InitialNetwork:
    """Return a model's network with the weights that its training began with.

    Those of a baseline are drawn from the seed of its run; a fine-tuned model begins as the transferred one
    that it was made from. An architecture by name has its random weights. Raises ParamsError where the weights
    cannot be known.
    """
    if not inspected.checkpoint_name:
        if inspected.has_file:
            problem = f"{inspected.description}: a file of weights has no record of those that it began with"
            raise ParamsError(problem, "leave --before out")
        return _drawn(inspected, inspected.seed, "random weights")
    kind = inspected.checkpoint_name.partition("/")[0]
    if kind == "transfer":  # its backbone is frozen
        return InitialNetwork(inspected.network, "before training: the pretrained backbone, which stays frozen")
    if kind != "finetune" and inspected.is_seed_given:
        return _drawn(inspected, inspected.seed, f"before training (seed {inspected.seed}, as given)")
    stage = _stage_of(inspected.folder)
    if stage and kind == "baseline" and stage.params.get(SEED, "").isdecimal():
        seed = int(stage.params[SEED])
        return _drawn(inspected, seed, f"before training (seed {seed} of its run)")
    start = next((path for path in (stage.deps if stage else {}) if path.startswith("models/transfer/")), None)
    if stage and kind == "finetune" and start:
        if not Path(start, checkpoints.DESCRIPTION).is_file() or folder_md5(Path(start)) != stage.deps[start]:
            problem = f"{start}, which {inspected.description} began from, is missing or not the one that it began from"
            raise ParamsError(problem, f"`dvc checkout {start}` brings it back, if it is that of the last run")
        return InitialNetwork(checkpoints.load(Path(start))[0], f"before fine-tuning (pretrained, {start})")
    remedy = "name a folder that `dvc repro` wrote, such as models/baseline, in the project that trained it"
    remedy += "; or the seed, if you know it: --seed N" if kind != "finetune" else "; or leave --before out"
    raise ParamsError(f"dvc.lock does not say which weights {inspected.description} began with", remedy)


def _drawn(inspected: InspectedNetwork, seed: int, description: str) -> InitialNetwork:
    features = factory.build_features(inspected.spec, seed)
    network = Network(features, inspected.preprocessing, max(1, len(inspected.classes)), seed)
    return InitialNetwork(network.eval(), description)


def _stage_of(folder: Path | None) -> LockedStage | None:
    """Return the stage of dvc.lock that wrote what is in a folder."""
    if folder is None:
        return None
    digest = folder_md5(folder)
    return next((stage for stage in dvc_graph.read_lock().values() if digest in stage.outs.values()), None)


def folder_md5(folder: Path) -> str:
    """Return the digest by which dvc.lock names a folder: that of the list of its files and their md5."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listing = [{"md5": dvc_graph.md5(path), "relpath": name} for name, path in files]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"

"""A trained classifier as a folder: weights, class names, preprocessing, architecture, params. No pickles.

`model.safetensors` holds the weights, `model.json` the rest, `history.csv` the metrics of every epoch.
Backbones have JSON files too: where their weights come from, and which one made embeddings.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from darkroom.core import atomic, strict_json
from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.models.base import Channels, Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.specs import NetworkSpec, spec_from_dict

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """The description of a trained model, `model.json`."""

    name: str
    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    params: dict[str, Any]
    best: dict[str, float]
    temperature: float = 1.0  # divides the logits before the softmax; missing in files of early versions


def save(
    folder: Path, checkpoint: Checkpoint, weights: dict[str, torch.Tensor], parameters: int, history: list[dict[str, float]]
) -> None:
    """Write a checkpoint into an existing folder: `weights` under the names of `Network`, `parameters` of
    them trainable.

    The same model gives the same bytes.
    """
    save_tensors(folder / "model.safetensors", weights)
    content = asdict(checkpoint) | {
        "schema": SCHEMA, "parameters": parameters, "architecture": checkpoint.architecture.as_dict(),
    }  # fmt: skip
    text = strict_json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def load(folder: Path) -> tuple[Network, Checkpoint]:
    """Read a checkpoint folder; the network is in evaluation mode.

    Raises WorkspaceError where the folder is not a checkpoint, WeightsError where the weights do not fit.
    """
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkspaceError(
            f"{folder} is not a checkpoint: it has no model.json", "run `dvc repro` to train the models"
        ) from error
    except json.JSONDecodeError as error:
        raise WorkspaceError(f"{folder}/model.json is damaged: {error}", "restore it: `dvc checkout -f`") from error
    if content.get("schema") != SCHEMA:
        raise WorkspaceError(
            f"{folder} has schema {content.get('schema')}; this version of Darkroom reads {SCHEMA}",
            "train it again: `dvc repro -f`",
        )
    names = {item.name for item in fields(Checkpoint)}
    checkpoint = Checkpoint(**{name: value for name, value in _typed(content).items() if name in names})
    network = Network(build_features(checkpoint.architecture), checkpoint.preprocessing, len(checkpoint.classes))
    try:
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"the weights in {folder} do not fit their architecture: {error}", "train it again: `dvc repro -f`"
        ) from error
    return network.eval(), checkpoint


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors as safetensors without metadata, whose order is not deterministic."""
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights come from, and the normalisation that they were trained with.

    `details` depend on the source: the seed of random weights, the figures of pretraining, or the file and
    its sha256.
    """

    architecture: NetworkSpec
    mean: Channels
    std: Channels
    source: str  # imagenet, folder, pretrain or random
    details: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        own = {"architecture": self.architecture.as_dict(), "mean": self.mean, "std": self.std, "source": self.source}
        atomic.write_json(path, own | dict(self.details))

    @classmethod
    def read(cls, path: Path) -> Provenance:
        content = json.loads(path.read_text(encoding="utf-8"))
        spec, mean, std = spec_from_dict(content.pop("architecture")), content.pop("mean"), content.pop("std")
        return cls(spec, tuple(mean), tuple(std), content.pop("source"), content)

    def summary(self) -> dict[str, Any]:
        """Return the part that is kept beside embeddings."""
        return {"source": self.source, **{key: self.details[key] for key in ("sha256", "pretrain_on") if key in self.details}}


@dataclass(frozen=True)
class EmbeddedBackbone:
    """The backbone as `embed` used it; `calibrated`: its batch-normalisation statistics were recomputed."""

    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    weights: Mapping[str, Any]  # `Provenance.summary`
    calibrated: bool
    parameters: int

    def write(self, path: Path) -> None:
        atomic.write_json(path, asdict(self) | {"architecture": self.architecture.as_dict()})

    @classmethod
    def read(cls, path: Path) -> EmbeddedBackbone:
        return cls(**_typed(json.loads(path.read_text(encoding="utf-8"))))


def _typed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a description, read from JSON, with the types of its fields."""
    return {
        **content,
        "architecture": spec_from_dict(content["architecture"]),
        "preprocessing": Preprocessing.from_dict(content["preprocessing"]),
        "classes": tuple(content["classes"]),
    }

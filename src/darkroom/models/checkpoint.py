"""A trained classifier as a folder: weights, class names, preprocessing, architecture, params. No pickles.

`model.safetensors` holds the weights, `model.json` the rest, `history.csv` the metrics of every epoch.
Backbones have JSON files too: where their weights come from, and which one made embeddings. Files of weights and their
descriptions have a checksum of what they hold, so that a damaged one is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, PlainValidator

from darkroom.config import dvc_graph
from darkroom.core import json_files, shortage
from darkroom.core.errors import DarkroomError, MissingLibraryError, WorkspaceError
from darkroom.models import mahalanobis, tensor_files
from darkroom.models.abstention import NO_DISTANCES, CalibrationDistances
from darkroom.models.base import Channels, Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.mahalanobis import Mahalanobis
from darkroom.models.prediction_sets import NO_SCORES, ConformalScores
from darkroom.models.specs import NetworkSpec, spec_from_dict

SCHEMA = 2
UNSEALED = 1  # the schema of earlier versions, whose files have no checksum
WEIGHTS_DIGEST = "weights"  # the checksum of the tensors; missing in files of early versions
DESCRIPTION, WEIGHTS, HISTORY = "model.json", "model.safetensors", "history.csv"


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names) or not all(names):
        raise ValueError("a class is named twice, or has no name")
    return names


Spec = Annotated[NetworkSpec, PlainValidator(spec_from_dict)]
Classes = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]


@dataclass(frozen=True)
class Checkpoint:
    """The description of a trained model, `model.json`."""

    name: str
    architecture: Spec
    preprocessing: Preprocessing
    classes: Classes
    params: dict[str, Any]
    best: Mapping[str, float | None]
    # divides the logits before the softmax; missing in files of early versions
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    conformal: ConformalScores = NO_SCORES  # of prediction sets; missing in files of 0.1
    abstention: CalibrationDistances = NO_DISTANCES  # missing in the same


def save(
    folder: Path, checkpoint: Checkpoint, weights: dict[str, torch.Tensor], parameters: int, history: list[dict[str, float]]
) -> None:
    """Write a checkpoint into an existing folder: `weights` under the names of `Network`, `parameters` of
    them trainable.

    The same model gives the same bytes.
    """
    digest = tensor_files.save(folder / WEIGHTS, weights)
    json_files.write_sealed(folder / DESCRIPTION, asdict(checkpoint) | {
        "schema": SCHEMA, "parameters": parameters, WEIGHTS_DIGEST: digest, "architecture": checkpoint.architecture.as_dict(),
    })  # fmt: skip
    with (folder / HISTORY).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def load(folder: Path) -> tuple[Network, Checkpoint]:
    """Read a checkpoint folder; the network is in evaluation mode.

    Raises WorkspaceError where the folder is not a checkpoint or one of its files is damaged, WeightsError where its
    architecture cannot be built, MissingLibraryError where it is of a library that is not installed.
    """
    checkpoint, has_checksums, digest = _read(folder)
    path, remedy = folder / WEIGHTS, partial(dvc_graph.how_to_restore, folder)
    try:
        network = Network(build_features(checkpoint.architecture), checkpoint.preprocessing, len(checkpoint.classes))
    except MissingLibraryError as error:
        raise MissingLibraryError(f"{folder} cannot be loaded: {error.problem}", error.remedy) from error
    except (DarkroomError, RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        problem = f"its architecture cannot be built: {error}"
        raise shortage.explain(error) or json_files.damaged(folder / DESCRIPTION, problem, remedy) from error
    try:
        tensors = tensor_files.load(path, remedy, has_checksums, digest)
        network.distance = _distance_like(network, tensors, checkpoint)
        network.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise _no_checkpoint(folder, WEIGHTS) from error
    except RuntimeError as error:
        problem = f"its weights do not fit the architecture: {error}"
        raise shortage.explain(error) or json_files.damaged(path, problem, remedy) from error
    return network.eval(), checkpoint


def _distance_like(network: Network, tensors: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> Mahalanobis | None:
    """Return the distance that the tensors of a network have, to be filled; None where they have none."""
    variances, features, steps = tensors.get(f"{mahalanobis.PREFIX}variances"), network.features, checkpoint.abstention.steps
    if variances is None:
        return None
    if steps > features.step_count():
        raise RuntimeError(f"its distance takes step {steps} of {features.step_count()}")
    dim, size = features.dim, checkpoint.architecture.as_dict()["image_size"]
    if steps:
        with torch.inference_mode():
            dim = sum(level.shape[1] for level in features.eval().levels(torch.zeros(1, 3, size, size), steps))
    return Mahalanobis(network.head.out_features, dim, variances.numel(), steps)


def read(folder: Path) -> Checkpoint:
    """Return the description of a checkpoint folder; errors as of `load`."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Checkpoint, bool, str | None]:
    """Return the description of a checkpoint folder, whether its files have checksums, and that of its weights, if it is known."""
    path, remedy = folder / DESCRIPTION, partial(dvc_graph.how_to_restore, folder)
    try:
        content = json_files.load_sealed(path, remedy, lambda content: content.get("schema") != SCHEMA)
    except FileNotFoundError as error:
        raise _no_checkpoint(folder, DESCRIPTION) from error
    schema, digest = content.pop("schema", None), content.pop(WEIGHTS_DIGEST, None)
    if schema not in (SCHEMA, UNSEALED):
        raise WorkspaceError(
            f"{folder} has schema {schema!r:.40}; this version of Darkroom reads {UNSEALED} and {SCHEMA}",
            "use the version of Darkroom that wrote it, or train it again: `dvc repro -f`",
        )
    checkpoint = json_files.validate(content, Checkpoint, path, remedy)
    least, size = checkpoint.architecture.as_dict()["image_size"], checkpoint.preprocessing.image_size
    if size < least:
        raise json_files.damaged(path, f"its network takes images of {least} pixels, and its preprocessing makes {size}", remedy)
    return checkpoint, schema == SCHEMA, digest if schema == SCHEMA and isinstance(digest, str) else None


def read_history(folder: Path) -> list[dict[str, str]]:
    """Return the metrics of every epoch, as text. Raises WorkspaceError where they are no numbers, or the file is missing."""
    path = folder / HISTORY
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            [float(value) for value in row.values() if value]
    except FileNotFoundError as error:
        raise _no_checkpoint(folder, HISTORY) from error
    except (ValueError, TypeError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise json_files.damaged(path, str(error), partial(dvc_graph.how_to_restore, folder)) from error
    return rows


def _no_checkpoint(folder: Path, missing: str) -> WorkspaceError:
    return WorkspaceError(f"{folder} is not a checkpoint: it has no {missing}", "run `dvc repro` to train the models")


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights come from, and the normalisation that they were trained with.

    `details` depend on the source: the seed of random weights, the figures of pretraining, or the file and
    its sha256.
    """

    architecture: Spec
    mean: Channels
    std: Channels
    source: str  # imagenet, folder, pretrain or random
    details: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        own = {"architecture": self.architecture.as_dict(), "mean": self.mean, "std": self.std, "source": self.source}
        json_files.write_sealed(path, own | dict(self.details))

    @classmethod
    def read(cls, path: Path) -> Provenance:
        """Read a file; raises FileNotFoundError, or WorkspaceError where it is damaged."""
        remedy = partial(dvc_graph.how_to_restore, path)
        content = json_files.load_sealed(path, remedy)
        own = {key: content.pop(key) for key in ("architecture", "mean", "std", "source") if key in content}
        return json_files.validate(own | {"details": content}, cls, path, remedy)

    def summary(self) -> dict[str, Any]:
        """Return the part that is kept beside embeddings."""
        return {"source": self.source, **{key: self.details[key] for key in ("sha256", "pretrain_on") if key in self.details}}


@dataclass(frozen=True)
class EmbeddedBackbone:
    """The backbone as `embed` used it; `calibrated`: its batch-normalisation statistics were recomputed; `steps`: the blocks before
    the feature map whose means are beside the embeddings, 0 where there are none."""

    architecture: Spec
    preprocessing: Preprocessing
    classes: Classes
    weights: Mapping[str, Any]  # `Provenance.summary`
    calibrated: bool
    parameters: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)] = 0

    def write(self, path: Path) -> None:
        json_files.write_sealed(path, asdict(self) | {"architecture": self.architecture.as_dict()})

    @classmethod
    def read(cls, path: Path) -> EmbeddedBackbone:
        """Read a file; raises FileNotFoundError, or WorkspaceError where it is damaged."""
        remedy = partial(dvc_graph.how_to_restore, path.parent)
        return json_files.validate(json_files.load_sealed(path, remedy), cls, path, remedy)

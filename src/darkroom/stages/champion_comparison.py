"""A trained model and the champion on the images that are held out now, and what a version keeps for the next such comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from darkroom.config.params import SPLITS, Params
from darkroom.core import strict_json
from darkroom.core.lazy import lazy_imports
from darkroom.data import arrays
from darkroom.data.manifest import Row
from darkroom.evaluation import gate, leaderboard, predictions
from darkroom.evaluation.gate import Candidate, GateResult
from darkroom.tracking import registry
from darkroom.tracking.entities import Version

with lazy_imports():  # they import torch, which a champion with stored predictions does not need
    from darkroom.inference import classifier, held_out

OTHER_CLASS = "another class"  # for predictions of a champion whose classes have been removed since
TRAINED, SELECTED = "trained-on.txt", "chosen-on.txt"  # pixel hashes of a version's train and val


@dataclass(frozen=True)
class Inputs:
    """The params, the folders that the stage reads, and the rows of the manifest."""

    settings: Params
    ingested: Path
    reports: Path
    models: Path
    rows: list[Row] = field(repr=False)

    @cached_property
    def images(self) -> dict[str, list[Row]]:
        """The accepted images of each split, in the order of its predictions."""
        accepted = [row for row in self.rows if row.status == "accepted"]
        return {split: [row for row in accepted if row.split == split] for split in SPLITS}


def write_evaluation(folder: Path, model: str, images: dict[str, list[Row]], reports: Path) -> None:
    """Write what later challengers are compared with: the predictions, and the images of training and
    selection."""
    folder.mkdir()
    predictions.extract(reports / "predictions.parquet", model, folder / "predictions.parquet")
    for file, split in ((TRAINED, "train"), (SELECTED, "val")):
        (folder / file).write_text("".join(f"{row.pixel_hash}\n" for row in images[split]), encoding="utf-8")


def judge(name: str, champion: Version | None, inputs: Inputs) -> GateResult:
    """Compare a model with the champion on the images that are held out now."""
    settings, images, reports = inputs.settings, inputs.images, inputs.reports
    classes = arrays.load_classes(inputs.ingested / "classes.json")
    outputs = predictions.read(reports / "predictions.parquet", name)
    costs = {row.model: row.ms_per_image for row in leaderboard.read(reports / "leaderboard.csv")}
    megabytes = (inputs.models / name / "model.safetensors").stat().st_size / 1e6
    val, test = (_align(outputs[split].probabilities, classes, classes) for split in predictions.HELD_OUT)
    challenger = gate.Candidate(name, val, test, costs[name], megabytes)
    folder = registry.fetch(settings.register_.name, champion.version) if champion else None
    trained, selected = (_read_hashes(folder, file) for file in (TRAINED, SELECTED))
    truth = gate.Truth(
        classes=(*classes, OTHER_CLASS),
        val=_class_indices(outputs["val"].labels, classes),
        test=_class_indices(outputs["test"].labels, classes),
        fresh_val=_is_fresh(images["val"], inputs.rows, trained),
        fresh_test=_is_fresh(images["test"], inputs.rows, trained | selected),
        val_groups=np.array([_group(row) for row in images["val"]]),
        test_groups=np.array([_group(row) for row in images["test"]]),
    )
    current = _champion_candidate(champion, folder, inputs, classes) if champion and folder else None
    return gate.judge(challenger, current, truth, settings.register_)


def _champion_candidate(champion: Version, folder: Path, inputs: Inputs, classes: tuple[str, ...]) -> Candidate:
    """Return the champion with its predictions for both splits: the stored ones if they cover all images,
    else new ones."""
    images = inputs.images
    own_classes = tuple(strict_json.loads((folder / "checkpoint" / "model.json").read_text(encoding="utf-8"))["classes"])
    probabilities: dict[str, np.ndarray] = {}
    table = folder / registry.EVALUATION / "predictions.parquet"
    if table.exists():
        stored = predictions.read(table, champion.model)
        matches = {split: stored[split].of([row.pixel_hash for row in images[split]]) for split in predictions.HELD_OUT}
        probabilities = {split: match for split, match in matches.items() if match is not None}
    if len(probabilities) < len(predictions.HELD_OUT):
        print(f"register: version {champion.version}, the champion, has no predictions for some of these images: it predicts again")
        paths = {split: [row.path for row in images[split]] for split in predictions.HELD_OUT}
        model = classifier.Classifier.load(folder / "checkpoint")
        probabilities = held_out.predict_splits(model, inputs.ingested, inputs.settings.ingest, paths)
    val, test = (_align(probabilities[split], own_classes, classes) for split in predictions.HELD_OUT)
    return gate.Candidate(f"version {champion.version}, {champion.model}", val, test, 0.0, 0.0)


def _align(probabilities: np.ndarray, own_classes: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    """Return (N, C + 1) probabilities of `classes`; the last column has the largest one of a class that is
    not among them."""
    aligned = np.zeros((len(probabilities), len(classes) + 1))
    for column, name in enumerate(own_classes):
        if name in classes:
            aligned[:, classes.index(name)] = probabilities[:, column]
        else:
            aligned[:, -1] = np.maximum(aligned[:, -1], probabilities[:, column])
    return aligned


def _class_indices(labels: list[str], classes: tuple[str, ...]) -> np.ndarray:
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[label] for label in labels], np.int64)


def learnt_images(folder: Path) -> set[str]:
    """Return the pixel hashes of the images on which a version's model was trained and chosen; `folder` is the version's."""
    return _read_hashes(folder, TRAINED) | _read_hashes(folder, SELECTED)


def _read_hashes(folder: Path | None, file: str) -> set[str]:
    path = folder / registry.EVALUATION / file if folder else None
    return set(path.read_text(encoding="utf-8").split()) if path and path.exists() else set()


def _is_fresh(images: list[Row], rows: list[Row], learnt: set[str]) -> np.ndarray:
    """Tell for each image (N,) whether no picture of its group, in any row of the manifest, has been learnt."""
    groups = {_group(row) for row in rows if row.pixel_hash in learnt}
    return np.array([_group(row) not in groups for row in images], bool)


def _group(row: Row) -> str:
    return row.group or row.pixel_hash

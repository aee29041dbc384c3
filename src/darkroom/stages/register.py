"""Register the model that validation selected as a version, and promote it to champion if every check passes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.core.lazy import lazy_imports
from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.evaluation import gate, leaderboard, metrics_io, predictions
from darkroom.evaluation.gate import Candidate, GateResult
from darkroom.models import weight_files
from darkroom.stages.context import session
from darkroom.tracking import entities, records, registry
from darkroom.tracking.entities import Version

with lazy_imports():  # they import torch, which a version that is registered already does not need
    from darkroom.inference import classifier, held_out
    from darkroom.stages import version_files

SCHEMA = 3
OTHER_CLASS = "another class"  # for predictions of a champion whose classes have been removed since
TRAINED, SELECTED = "trained-on.txt", "chosen-on.txt"  # pixel hashes of a version's train and val
SCRATCH = Path(".darkroom/scratch")


@dataclass
class Decision:
    """The content of promotion.json: the selected model, the version that it is, and the result of the
    checks."""

    model: str
    checkpoint_sha256: str
    accuracy: float
    val_accuracy: float
    registered: Mapping[str, Any] | None = None
    promoted: bool = False
    verdict: Mapping[str, Any] | None = None
    schema: int = field(default=SCHEMA)


def run(ingested: Path, reports: Path, models: Path, out: Path) -> None:
    with session("register", ["register"], [reports / "metrics.json"]) as (settings, record):
        metrics = metrics_io.read(reports / metrics_io.METRICS, metrics_io.Metrics)
        best, figures = metrics.best, metrics.best_figures
        decision = Decision(best, weight_files.checkpoint_digest(models / best), figures.accuracy, figures.val_accuracy)
        if records.is_off():
            print(f"register: tracking is off, {best} is not registered")
        else:
            images = manifest.read_images(ingested / "manifest.parquet")
            _register(decision, figures.macro_f1, settings, images, ingested, reports, models, record)
        atomic.write_json(out, asdict(decision))


def _register(
    decision: Decision, macro_f1: float, settings: Params, images: dict[str, list[Row]], ingested: Path, reports: Path,
    models: Path, record: records.Run,
) -> None:  # fmt: skip
    """Register the model, compare it with the champion, promote it if all checks pass; complete the decision."""
    name, best, sha256 = settings.register_.name, decision.model, decision.checkpoint_sha256
    tags = {
        registry.MODEL: best,
        entities.DATA: _describe_data(settings, ingested, len(images["train"])),
        "val_accuracy": f"{decision.val_accuracy:.4f}",
        "test_accuracy": f"{decision.accuracy:.4f}",
        "test_macro_f1": f"{macro_f1:.4f}",
    }
    description = f"{best}: test accuracy {decision.accuracy:.4f}, validation accuracy {decision.val_accuracy:.4f}"
    champion = registry.champion(name)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        package = Path(scratch)
        _write_evaluation(package / registry.EVALUATION, best, images, reports)
        if sha256 not in {item.sha256 for item in registry.versions(name)}:
            errors = version_files.write_package(models / best, ingested, package)
            print("register: " + ", ".join(f"{file} (error {error:.0e})" for file, error in errors.items()))
        version = registry.register(name, models / best, package, sha256, tags, description)
    kind = "new" if version.created else "existing"
    print(f"register: {best} is the {kind} version {version.version} of {name}, alias {registry.CHALLENGER}")
    aliases = [registry.CHALLENGER]
    if champion and champion.version == version.version:
        print(f"register: version {version.version} is the champion already")
        aliases.append(registry.CHAMPION)
    else:
        verdict = _judge(best, models / best, champion, settings, images, ingested, reports)
        decision.verdict = verdict.as_dict()
        for check in verdict.checks:
            print(f"  {'passed' if check.passed else 'VETO  '}  {check.message}")
        result = {entities.VERDICT: "passed" if verdict.passed else "vetoed", "darkroom.promotion": verdict.message[:4900]}
        registry.describe(name, version.version, result, f"{description}.\n\n{verdict.message}")
        record.set_tags(result)
        if verdict.passed and settings.register_.promote == "gate":
            registry.promote(name, version.version, verdict.message)
            decision.promoted = True
            aliases.append(registry.CHAMPION)
        print(f"register: {_describe_outcome(version, champion, verdict, settings.register_.promote)}")
    decision.registered = {"name": name, "version": version.version, "aliases": aliases}
    record.set_tags({"darkroom.model_version": f"{name}/{version.version}", "darkroom.checkpoint_sha256": sha256})


def _describe_outcome(version: Version, champion: Version | None, verdict: GateResult, promote: str) -> str:
    previous = f"version {champion.version}, {champion.model}" if champion else ""
    if verdict.passed and promote == "gate":
        return f"version {version.version} is the champion" + (f", in place of {previous}" if previous else ", the first one")
    champion_stays = f"the champion stays {previous}" if previous else "there is no champion"
    if promote == "never":
        return f"{champion_stays}, since register.promote is never"
    failed = ", ".join(check.name for check in verdict.checks if not check.passed)
    checks = f"some checks failed: {failed}" if failed else "all checks passed"
    return f"{checks}; {champion_stays}; `darkroom promote {version.version}` makes version {version.version} the champion"


def _describe_data(settings: Params, ingested: Path, count: int) -> str:
    """Return the number of training images, their source, and the digest of the manifest."""
    digest = hashlib.md5((ingested / "manifest.parquet").read_bytes()).hexdigest()  # as in dvc.lock
    return f"{count:,} images of {settings.ingest.source} (manifest {digest[:8]})"


def _write_evaluation(folder: Path, model: str, images: dict[str, list[Row]], reports: Path) -> None:
    """Write what later challengers are compared with: the predictions, and the images of training and
    selection."""
    folder.mkdir()
    predictions.extract(reports / "predictions.parquet", model, folder / "predictions.parquet")
    for file, split in ((TRAINED, "train"), (SELECTED, "val")):
        (folder / file).write_text("".join(f"{row.pixel_hash}\n" for row in images[split]), encoding="utf-8")


def _judge(
    name: str, checkpoint: Path, champion: Version | None, settings: Params, images: dict[str, list[Row]], ingested: Path,
    reports: Path,
) -> GateResult:  # fmt: skip
    """Compare a model with the champion on the images that are held out now."""
    classes = tuple(json.loads((ingested / "classes.json").read_text(encoding="utf-8")))
    outputs = predictions.read(reports / "predictions.parquet", name)
    costs = {row.model: row.ms_per_image for row in leaderboard.read(reports / "leaderboard.csv")}
    megabytes = (checkpoint / "model.safetensors").stat().st_size / 1e6
    val, test = (_align(outputs[split].probabilities, classes, classes) for split in predictions.SPLITS)
    challenger = gate.Candidate(name, val, test, costs[name], megabytes)
    folder = registry.fetch(settings.register_.name, champion.version) if champion else None
    trained, selected = (_read_hashes(folder, file) for file in (TRAINED, SELECTED))
    truth = gate.Truth(
        classes=(*classes, OTHER_CLASS),
        val=_class_indices(outputs["val"].labels, classes),
        test=_class_indices(outputs["test"].labels, classes),
        fresh_val=_is_fresh(outputs["val"].pixel_hashes, trained),
        fresh_test=_is_fresh(outputs["test"].pixel_hashes, trained | selected),
        test_groups=np.array([row.group for row in images["test"]]),
    )
    current = _champion_candidate(champion, folder, settings, classes, images, ingested) if champion and folder else None
    return gate.judge(challenger, current, truth, settings.register_)


def _champion_candidate(
    champion: Version, folder: Path, settings: Params, classes: tuple[str, ...], images: dict[str, list[Row]], ingested: Path
) -> Candidate:
    """Return the champion with its predictions for both splits: the stored ones if they cover all images,
    else new ones."""
    own_classes = tuple(json.loads((folder / "checkpoint" / "model.json").read_text(encoding="utf-8"))["classes"])
    probabilities: dict[str, np.ndarray] = {}
    table = folder / registry.EVALUATION / "predictions.parquet"
    if table.exists():
        stored = predictions.read(table, champion.model)
        matches = {split: stored[split].of([row.pixel_hash for row in images[split]]) for split in predictions.SPLITS}
        probabilities = {split: match for split, match in matches.items() if match is not None}
    if len(probabilities) < len(predictions.SPLITS):
        print(f"register: version {champion.version}, the champion, has no predictions for some of these images: it predicts again")
        paths = {split: [row.path for row in images[split]] for split in predictions.SPLITS}
        model = classifier.Classifier.load(folder / "checkpoint")
        probabilities = held_out.predict_splits(model, ingested, settings.ingest, paths)
    val, test = (_align(probabilities[split], own_classes, classes) for split in predictions.SPLITS)
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


def _read_hashes(folder: Path | None, file: str) -> set[str]:
    path = folder / registry.EVALUATION / file if folder else None
    return set(path.read_text(encoding="utf-8").split()) if path and path.exists() else set()


def _is_fresh(hashes: list[str], learnt: set[str]) -> np.ndarray:
    return np.array([pixel_hash not in learnt for pixel_hash in hashes], bool)

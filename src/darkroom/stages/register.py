"""Register the selected model as a version, and promote it to champion if every check passes.

Any other evaluated model can be registered by hand; a person then decides whether it becomes the champion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config.params import SPLITS, Params, Register
from darkroom.core import atomic, kept_results, strict_json
from darkroom.core.errors import WorkspaceError, nearest
from darkroom.core.lazy import lazy_imports
from darkroom.data import arrays, manifest
from darkroom.data.manifest import Row
from darkroom.evaluation import gate, leaderboard, metrics_io, predictions
from darkroom.evaluation.gate import Candidate, GateResult
from darkroom.models import weight_files
from darkroom.stages import other_project, version_page
from darkroom.stages.context import session
from darkroom.tracking import entities, pipelines, records, registry
from darkroom.tracking.entities import Version

with lazy_imports():  # they import torch, which a version that is registered already does not need
    from darkroom.inference import classifier, held_out
    from darkroom.stages import int8_program, version_files

SCHEMA = 3
OTHER_CLASS = "another class"  # for predictions of a champion whose classes have been removed since
TRAINED, SELECTED = "trained-on.txt", "chosen-on.txt"  # pixel hashes of a version's train and val
SCRATCH = Path(".darkroom/scratch/register")


@dataclass
class Decision:
    """The content of promotion.json: the selected model, the version that it is, and the result of the
    checks."""

    model: str
    checkpoint_sha256: str
    accuracy: float
    val_accuracy: float
    selection: str  # how the model was chosen, in a sentence; empty where a person named it
    registered: Mapping[str, Any] | None = None
    promoted: bool = False
    verdict: Mapping[str, Any] | None = None
    int8: Mapping[str, Any] | None = None  # the verdict on the program of 8-bit integers, where `register.quantize` asks for one
    schema: int = field(default=SCHEMA)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of promotion.json; `int8` is left out where nothing asks for it."""
        return {key: value for key, value in asdict(self).items() if key != "int8" or value is not None}


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


def run(ingested: Path, reports: Path, models: Path, out: Path) -> None:
    atomic.write_json(out, _run("", ingested, reports, models).as_dict())


def run_by_hand(model: str, ingested: Path, reports: Path, models: Path) -> Decision:
    """Register an evaluated model, `finetune/vgg16`, with its verdict; promote nothing.

    Raises WorkspaceError where the model has not been evaluated, or nothing is tracked.
    """
    if records.is_off():
        raise WorkspaceError("DARKROOM_TRACKING is off, so nothing can be registered", "unset it, and register again")
    return _run(model, ingested, reports, models)


def _run(model: str, ingested: Path, reports: Path, models: Path) -> Decision:
    """Register this model, or without a name the selected one, which is then promoted where the gate lets it."""
    with session("register", ["register", "evaluate.refuse"], [reports / "metrics.json"]) as (settings, record):
        kept_results.clear()  # DVC has saved what came of it
        metrics = metrics_io.read(reports / metrics_io.METRICS, metrics_io.Metrics)
        name = model or metrics.best
        _check_evaluated(name, metrics, models)
        figures, chosen = metrics.models[name], "" if model else leaderboard.describe_selection(metrics)
        decision = Decision(name, weight_files.checkpoint_digest(models / name), figures.accuracy, figures.val_accuracy, chosen)
        if records.is_off():
            print(f"register: tracking is off, {name} is not registered")
        else:
            inputs = Inputs(settings, ingested, reports, models, manifest.read(ingested / "manifest.parquet"))
            _register(decision, figures.macro_f1, inputs, record, by_hand=bool(model))
    return decision


def _check_evaluated(name: str, metrics: metrics_io.Metrics, models: Path) -> None:
    evaluated = [model for model in metrics.models if model != metrics_io.PIXEL_BASELINE]
    if name not in evaluated:
        raise WorkspaceError(
            f'the last evaluation has no model "{name}"{nearest(name, evaluated)}',
            f"name one of {', '.join(evaluated)}; `dvc repro evaluate` evaluates all that are trained",
        )
    if not (models / name / "model.json").is_file():
        raise WorkspaceError(f"{models / name} holds no checkpoint", "`dvc checkout` restores it, or `dvc repro` trains it")


def _register(decision: Decision, macro_f1: float, inputs: Inputs, record: records.Run, by_hand: bool) -> None:
    """Register the model, compare it with the champion, promote it if all checks pass; complete the decision."""
    settings, images = inputs.settings, inputs.images
    name, model, sha256 = settings.register_.name, decision.model, decision.checkpoint_sha256
    data = _data(inputs)
    tags = data.as_tags() | {
        entities.PROJECT: other_project.identity(),
        registry.MODEL: model,
        entities.DATA: f"{data.counts['train']:,} images of {data.source} (manifest {data.digest[:8]})",
        "val_accuracy": f"{decision.val_accuracy:.4f}",
        "test_accuracy": f"{decision.accuracy:.4f}",
        "test_macro_f1": f"{macro_f1:.4f}",
    }
    description = f"{model}: test accuracy {decision.accuracy:.4f}, validation accuracy {decision.val_accuracy:.4f}"
    if decision.selection:
        print(f"register: {decision.selection}")
        description += f". {decision.selection.removesuffix('.')}"
    champion = registry.champion(name)
    existing = {item.sha256: item for item in registry.versions(name)}
    if sha256 not in existing:
        _check_project(name, champion or max(existing.values(), key=lambda item: int(item.version), default=None), inputs)
    with atomic.scratch_folder(SCRATCH) as package:
        _write_evaluation(package / registry.EVALUATION, model, images, inputs.reports)
        is_damaged = sha256 in existing and not registry.is_stored(name, existing[sha256].version)
        if settings.register_.quantize == "int8" and sha256 in existing and not is_damaged:
            decision.int8 = version_files.read_int8(registry.fetch(name, existing[sha256].version))
        lacks_int8 = settings.register_.quantize == "int8" and decision.int8 is None
        if sha256 not in existing or is_damaged or lacks_int8:
            errors = version_files.write_package(inputs.models / model, inputs.ingested, package, settings.evaluate.refuse)
            print("register: " + ", ".join(f"{file} (error {error:.0e})" for file, error in errors.items()))
        if lacks_int8:
            arguments = inputs.models / model, inputs.ingested, package, settings.evaluate.refuse, settings.register_
            decision.int8 = int8_program.add(*arguments)
            print(f"register: int8: {decision.int8['message']}")
        if is_damaged or (lacks_int8 and sha256 in existing):
            reason = "was damaged in MLflow, and" if is_damaged else "has an int8 verdict now, and"
            print(f"register: version {existing[sha256].version} {reason} is stored again")
            registry.store_again(name, existing[sha256].version, inputs.models / model, package)
        version = registry.register(name, inputs.models / model, package, sha256, tags, description)
    if decision.int8:
        outcome = entities.ACCEPTED if decision.int8["accepted"] else entities.REFUSED
        registry.tag(name, version.version, entities.INT8, outcome)
    kind = "new" if version.created else "existing"
    print(f"register: {model} is the {kind} version {version.version} of {name}, alias {registry.CHALLENGER}")
    aliases = [registry.CHALLENGER]
    if champion and champion.version == version.version:
        print(f"register: version {version.version} is the champion already")
        aliases.append(registry.CHAMPION)
    else:
        verdict = _judge(model, champion, inputs)
        decision.verdict = verdict.as_dict()
        for check in verdict.checks:
            print(f"  {'passed' if check.passed else 'VETO  ' if check.is_veto else 'no    '}  {check.message}")
        result = {
            entities.VERDICT: _outcome(verdict),
            entities.FAILED: ", ".join(verdict.failed) or entities.NONE,
            entities.PROMOTION: verdict.message[:4900],
        }
        row = next(row for row in leaderboard.read(inputs.reports / "leaderboard.csv") if row.model == model)
        registry.describe(name, version.version, tags | result, version_page.describe(description, verdict, row, data))
        record.set_tags(result)
        hindrance = _hindrance(verdict, settings.register_, existing.get(sha256), by_hand)
        if not hindrance:
            registry.promote(name, version.version, verdict.message)
            decision.promoted = True
            aliases.append(registry.CHAMPION)
        print(f"register: {_describe_outcome(version, champion, verdict, hindrance)}")
    decision.registered = {"name": name, "version": version.version, "aliases": aliases}
    record.set_tags({"darkroom.model_version": f"{name}/{version.version}", "darkroom.checkpoint_sha256": sha256})


def _check_project(name: str, version: Version | None, inputs: Inputs) -> None:
    """Raise WorkspaceError where the version in use, or else the newest one, is another project's."""
    if version and (folder := other_project.of_version(name, version)):
        learnt = _read_hashes(folder, TRAINED) | _read_hashes(folder, SELECTED)
        classes = arrays.load_classes(inputs.ingested / "classes.json")
        other_project.check(name, version, learnt, {row.pixel_hash for row in inputs.rows}, folder, classes)


def _hindrance(verdict: GateResult, limits: Register, existing: Version | None, by_hand: bool) -> str:
    """Return why the version is not promoted; empty where it is. `existing` is the version if it existed before."""
    if not verdict.passed and not verdict.is_vetoed:
        return "it is kept back: it is not better than the champion"
    if not verdict.passed:
        return f"some checks failed: {', '.join(verdict.failed)}"
    if limits.promote != "gate":
        return f"all checks passed, and register.promote is {limits.promote}"
    if by_hand:
        return "all checks passed, and a person registered it, who decides"
    if experiment := pipelines.experiment():
        return f"all checks passed, and the DVC experiment {experiment} promotes nothing"
    reason = registry.reason_left_to_person(registry.ledger(limits.name), existing) if existing else ""
    return f"all checks passed, but {reason}" if reason else ""


def _outcome(verdict: GateResult) -> str:
    return entities.PASSED if verdict.passed else entities.VETOED if verdict.is_vetoed else entities.NOT_BETTER


def _describe_outcome(version: Version, champion: Version | None, verdict: GateResult, hindrance: str) -> str:
    previous = f"version {champion.version}, {champion.model}" if champion else ""
    if not hindrance:
        return f"version {version.version} is the champion" + (f", in place of {previous}" if previous else ", the first one")
    stays = f"the champion stays {previous}" if previous else "there is no champion"
    force = "" if not verdict.is_vetoed else ' --force --why "…"'
    return f"{hindrance}; {stays}; `darkroom promote {version.version}{force}` makes version {version.version} the champion"


def _data(inputs: Inputs) -> version_page.Data:
    digest = hashlib.md5((inputs.ingested / "manifest.parquet").read_bytes()).hexdigest()  # as in dvc.lock
    classes = list(arrays.load_classes(inputs.ingested / "classes.json"))
    counts = {split: len(rows) for split, rows in inputs.images.items()}
    settings = inputs.settings.ingest
    return version_page.Data(settings.source, digest, counts, classes, settings.image_size)


def _write_evaluation(folder: Path, model: str, images: dict[str, list[Row]], reports: Path) -> None:
    """Write what later challengers are compared with: the predictions, and the images of training and
    selection."""
    folder.mkdir()
    predictions.extract(reports / "predictions.parquet", model, folder / "predictions.parquet")
    for file, split in ((TRAINED, "train"), (SELECTED, "val")):
        (folder / file).write_text("".join(f"{row.pixel_hash}\n" for row in images[split]), encoding="utf-8")


def _judge(name: str, champion: Version | None, inputs: Inputs) -> GateResult:
    """Compare a model with the champion on the images that are held out now."""
    settings, images, reports = inputs.settings, inputs.images, inputs.reports
    classes = arrays.load_classes(inputs.ingested / "classes.json")
    outputs = predictions.read(reports / "predictions.parquet", name)
    costs = {row.model: row.ms_per_image for row in leaderboard.read(reports / "leaderboard.csv")}
    megabytes = (inputs.models / name / "model.safetensors").stat().st_size / 1e6
    val, test = (_align(outputs[split].probabilities, classes, classes) for split in predictions.SPLITS)
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
        matches = {split: stored[split].of([row.pixel_hash for row in images[split]]) for split in predictions.SPLITS}
        probabilities = {split: match for split, match in matches.items() if match is not None}
    if len(probabilities) < len(predictions.SPLITS):
        print(f"register: version {champion.version}, the champion, has no predictions for some of these images: it predicts again")
        paths = {split: [row.path for row in images[split]] for split in predictions.SPLITS}
        model = classifier.Classifier.load(folder / "checkpoint")
        probabilities = held_out.predict_splits(model, inputs.ingested, inputs.settings.ingest, paths)
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


def _is_fresh(images: list[Row], rows: list[Row], learnt: set[str]) -> np.ndarray:
    """Tell for each image (N,) whether no picture of its group, in any row of the manifest, has been learnt."""
    groups = {_group(row) for row in rows if row.pixel_hash in learnt}
    return np.array([_group(row) not in groups for row in images], bool)


def _group(row: Row) -> str:
    return row.group or row.pixel_hash

"""Register the selected model as a version, and promote it to champion if every check passes.

Any other evaluated model can be registered by hand; a person then decides whether it becomes the champion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darkroom.config.params import Register
from darkroom.core import atomic, kept_results
from darkroom.core.errors import WorkspaceError, nearest
from darkroom.core.lazy import lazy_imports
from darkroom.data import arrays, manifest
from darkroom.evaluation import leaderboard, metrics_io
from darkroom.evaluation.gate import GateResult
from darkroom.models import weight_files
from darkroom.stages import champion_comparison, other_project, version_page
from darkroom.stages.champion_comparison import Inputs
from darkroom.stages.context import session
from darkroom.tracking import entities, pipelines, records, registry
from darkroom.tracking.entities import Version

with lazy_imports():  # they import torch, which a version that is registered already does not need
    from darkroom.stages import int8_program, version_files

SCHEMA = 3
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
    name, model, sha256 = inputs.settings.register_.name, decision.model, decision.checkpoint_sha256
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
    versions = {item.sha256: item for item in registry.versions(name)}
    existing = versions.get(sha256)
    if not existing:
        _check_project(name, champion or max(versions.values(), key=lambda item: int(item.version), default=None), inputs)
    version = _store(decision, existing, inputs, tags, description)
    kind = "new" if version.created else "existing"
    has_int8 = bool(decision.int8 and decision.int8["accepted"])
    own_aliases = f"aliases {registry.CHALLENGER} and {entities.INT8_ALIAS}" if has_int8 else f"alias {registry.CHALLENGER}"
    print(f"register: {model} is the {kind} version {version.version} of {name}, {own_aliases}")
    if champion and champion.version == version.version:
        print(f"register: version {version.version} is the champion already")
    else:
        verdict = champion_comparison.judge(model, champion, inputs)
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
        hindrance = _hindrance(verdict, inputs.settings.register_, existing, by_hand)
        if not hindrance:
            registry.promote(name, version.version, verdict.message)
            decision.promoted = True
        print(f"register: {_describe_outcome(version, champion, verdict, hindrance)}")
    is_champion = decision.promoted or (champion and champion.version == version.version)
    aliases = [registry.CHALLENGER, registry.CHAMPION] if is_champion else [registry.CHALLENGER]
    if has_int8:
        aliases.append(entities.INT8_ALIAS)
    decision.registered = {"name": name, "version": version.version, "aliases": aliases}
    record.set_tags({"darkroom.model_version": f"{name}/{version.version}", "darkroom.checkpoint_sha256": sha256})


def _store(decision: Decision, existing: Version | None, inputs: Inputs, tags: dict[str, str], description: str) -> Version:
    """Return the version of the model: a new one, or the existing one, which is stored again where it is damaged or lacks what
    `register.quantize` asks for."""
    settings, name, model = inputs.settings, inputs.settings.register_.name, inputs.models / decision.model
    with atomic.scratch_folder(SCRATCH) as package:
        champion_comparison.write_evaluation(package / registry.EVALUATION, decision.model, inputs.images, inputs.reports)
        is_damaged = existing is not None and not registry.is_stored(name, existing.version)
        if settings.register_.quantize == "int8" and existing and not is_damaged:
            decision.int8 = version_files.read_int8(registry.fetch(name, existing.version))
        lacks_int8 = settings.register_.quantize == "int8" and decision.int8 is None
        if not existing or is_damaged or lacks_int8:
            errors = version_files.write_package(model, inputs.ingested, package, settings.evaluate.refuse)
            print("register: " + ", ".join(f"{file} (error {error:.0e})" for file, error in errors.items()))
        if lacks_int8:
            decision.int8 = int8_program.add(model, inputs.ingested, package, settings.evaluate.refuse, settings.register_)
            print(f"register: int8: {decision.int8['message']}")
        if existing and (is_damaged or lacks_int8):
            reason = "was damaged in MLflow, and" if is_damaged else "has an int8 verdict now, and"
            print(f"register: version {existing.version} {reason} is stored again")
            registry.store_again(name, existing.version, model, package)
        version = registry.register(name, model, package, decision.checkpoint_sha256, tags, description)
    if decision.int8:
        registry.tag(name, version.version, entities.INT8, entities.ACCEPTED if decision.int8["accepted"] else entities.REFUSED)
        if decision.int8["accepted"]:
            registry.set_alias(name, version.version, entities.INT8_ALIAS)
    return version


def _check_project(name: str, version: Version | None, inputs: Inputs) -> None:
    """Raise WorkspaceError where the version in use, or else the newest one, is another project's."""
    if version and (folder := other_project.of_version(name, version)):
        learnt = champion_comparison.learnt_images(folder)
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

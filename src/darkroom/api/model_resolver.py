"""Find the model that a command names: a checkpoint folder, or an alias, number or address in MLflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from darkroom.core import user_paths
from darkroom.core.errors import ParamsError, WorkspaceError, nearest
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities
from darkroom.tracking.entities import Version

with lazy_imports():
    from darkroom.api import promotion_file
    from darkroom.config import params
    from darkroom.inference import classifier as classifiers
    from darkroom.inference import exported_classifier, quantized_classifier
    from darkroom.models import weight_files
    from darkroom.tracking import registry
    from darkroom.training import devices


FLOAT32, INT8 = ENGINES = ("float32", "int8")
SHOWN = 3  # versions whose verdict is named


class NoChampionError(WorkspaceError):
    """There is no champion: why, by the checks of the versions, and what makes one the champion."""


def no_champion(name: str, versions: list[Version], promote: str) -> NoChampionError:
    """Return the error about the registered model `name`, which has these versions; `promote` is register.promote."""
    if not versions:
        elsewhere = promotion_file.registered_elsewhere(promotion_file.read())
        return NoChampionError(
            f"{name} has no champion, since nothing is registered" + (f" here: {elsewhere}" if elsewhere else ""),
            (promotion_file.REGISTER_HERE if elsewhere else "`dvc repro` trains, evaluates and registers models")
            + ", `darkroom register MODEL` registers one that is evaluated",
        )
    newest = sorted(versions, key=lambda item: -int(item.version))
    listed = "; ".join(f"version {item.version}, {item.model}: {item.checks}" for item in newest[:SHOWN])
    older = f"; and {len(newest) - SHOWN} older" if len(newest) > SHOWN else ""
    setting = f"; register.promote is {promote}" if promote != "gate" else ""
    candidate = next((item for item in newest if item.verdict != entities.VETOED), None)
    if candidate:
        remedy = f"`darkroom promote {candidate.version}` makes version {candidate.version} the champion"
    else:
        remedy = f'train a model that passes the checks, or `darkroom promote {newest[0].version} --force --why "…"`'
    return NoChampionError(f"{name} has no champion: {listed}{older}{setting}", f"{remedy}; `darkroom models` lists all versions")


def default_engine(model: str) -> str:
    """Return the engine of a model where none is named: int8 for the alias of versions with such a program, else float32."""
    is_alias = re.split("[@/]", model)[-1] == entities.INT8_ALIAS and not Path(model, "model.json").is_file()
    return INT8 if is_alias else FLOAT32


def load(model: str, engine: str = FLOAT32) -> tuple[classifiers.Classifier, classifiers.ModelInfo]:
    """Return a classifier and its identity; raises WorkspaceError if there is no such model.

    With the engine `int8` a registered version predicts by its program of 8-bit integers; raises WorkspaceError where it has none,
    ParamsError for another engine.
    """
    if engine not in ENGINES:
        raise ParamsError(f'there is no engine "{engine}"{nearest(engine, ENGINES)}', f"choose from {', '.join(ENGINES)}")
    folder, name, version, digest = user_paths.expand(model, "--model", "a model"), "", "", ""
    if not folder.joinpath("model.json").is_file():
        if folder.is_dir():
            raise WorkspaceError(f"{model} is not a checkpoint: it has no model.json", "name one like models/baseline")
        name, picked, folder = _fetch(model)
        version, digest = picked.version, picked.sha256  # which has just been checked
    classifier = classifiers.Classifier.load(folder)
    if classifier.threshold:
        classifier.refuse(_refuse(folder.parent / entities.EXPORTED if version else None, classifier.threshold.refuse))
    title = classifier.checkpoint.name
    description = f"version {version} of {name} ({title})" if version else f"{model} ({title})"
    if engine == INT8:
        exported = folder.parent / entities.EXPORTED
        if not version or not (exported / exported_classifier.INT8_DESCRIPTION).is_file():
            raise quantized_classifier.missing(description)
        classifier, description = quantized_classifier.QuantizedClassifier(classifier, exported), f"{description}, int8"
    digest = digest or weight_files.checkpoint_digest(folder)
    return classifier, classifiers.ModelInfo(name or str(folder), version, title, digest, description)


def load_on_device(model: str, engine: str = FLOAT32) -> tuple[classifiers.Classifier, classifiers.ModelInfo]:
    """Return the same, on the device of `compute.accelerator`; where params.yaml has none, on that of `auto`."""
    classifier, info = load(model, engine)
    return classifier.to(devices.available_device(_accelerator())), info


def _accelerator() -> str:
    """Return `compute.accelerator`."""
    value = _param("compute", "accelerator")
    return value if value in ("cpu", "cuda", "mps") else "auto"


def _refuse(exported: Path | None, default: float) -> float:
    """Return the share of images that may be unknown: of a version that with which it is served, else `evaluate.refuse`."""
    if exported and (exported / exported_classifier.DESCRIPTION).is_file():
        threshold = exported_classifier.read_description(exported).abstention
        return threshold.refuse if threshold else 0.0
    value = _param("evaluate", "refuse")
    return float(value) if isinstance(value, int | float) and 0 <= value < 1 else default


def _param(section: str, key: str) -> Any:
    """Return a value of params.yaml, None where there is none. Only this key is read: the params of another program, or of a
    version of before, are no reason not to predict."""
    content = params.read_yaml(Path("params.yaml")) if Path("params.yaml").is_file() else {}
    inner = content.get(section) if isinstance(content, dict) else None
    return inner.get(key) if isinstance(inner, dict) else None


def _fetch(model: str) -> tuple[str, Version, Path]:
    """Return name, version and checkpoint folder of a registered model."""
    address = registry.address(model)
    name, version = address or ("", model)
    if not address and ("/" in model or model.startswith(".")):
        raise WorkspaceError(f"there is no folder {model}", "`ls models` lists trained models, `darkroom models` registered ones")
    settings = params.read().register_
    name = name or settings.name
    versions = registry.versions(name)
    if version == registry.CHAMPION and not any(registry.CHAMPION in item.aliases for item in versions):
        error = no_champion(name, versions, settings.promote)
        other = "--model challenger" if versions else "--model models/baseline"
        raise NoChampionError(error.problem, f"{error.remedy}; or name another model: {other}")
    picked = registry.pick(versions, version, name)
    return name, picked, registry.fetch(name, picked.version) / "checkpoint"

"""Find the model that a command names: a checkpoint folder, or an alias, number or address in MLflow."""

from __future__ import annotations

from pathlib import Path

from darkroom.core import user_paths
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import params
    from darkroom.inference import classifier as classifiers
    from darkroom.models import weight_files
    from darkroom.tracking import registry
    from darkroom.training import devices


class NoChampionError(WorkspaceError):
    """There is no champion yet: the first registration that passes the gate makes one."""


def load(model: str) -> tuple[classifiers.Classifier, classifiers.ModelInfo]:
    """Return a classifier and its identity; raises WorkspaceError if there is no such model."""
    folder, name, version = user_paths.expand(model, "--model", "a model"), "", ""
    if not folder.joinpath("model.json").is_file():
        if folder.is_dir():
            raise WorkspaceError(f"{model} is not a checkpoint: it has no model.json", "name one like models/baseline")
        name, version, folder = _fetch(model)
    classifier = classifiers.Classifier.load(folder)
    title = classifier.checkpoint.name
    description = f"version {version} of {name} ({title})" if version else f"{model} ({title})"
    digest = weight_files.checkpoint_digest(folder)
    return classifier, classifiers.ModelInfo(name or str(folder), version, title, digest, description)


def load_on_device(model: str) -> tuple[classifiers.Classifier, classifiers.ModelInfo]:
    """Return the same, on the device of `compute.accelerator`; where there is no params.yaml, on that of `auto`."""
    classifier, info = load(model)
    accelerator = params.read().compute.accelerator if Path("params.yaml").exists() else "auto"
    return classifier.to(devices.available_device(accelerator)), info


def _fetch(model: str) -> tuple[str, str, Path]:
    """Return name, version and checkpoint folder of a registered model."""
    address = registry.address(model)
    name, version = address or ("", model)
    if not address and ("/" in model or model.startswith(".")):
        raise WorkspaceError(f"there is no folder {model}", "`ls models` lists trained models, `darkroom models` registered ones")
    name = name or params.read().register_.name
    versions = registry.versions(name)
    if version == registry.CHAMPION and not any(registry.CHAMPION in item.aliases for item in versions):
        raise NoChampionError(
            f"{name} has no champion yet" + (f" among its {len(versions)} versions" if versions else ""),
            "`dvc repro` trains and registers one; or name another model: --model models/baseline, --model challenger",
        )
    version = registry.pick(versions, version, name).version
    return name, version, registry.fetch(name, version) / "checkpoint"

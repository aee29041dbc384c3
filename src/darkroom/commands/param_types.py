"""The values that arguments and options take, as click's parameter types: they complete with the tab key.

Completion imports neither torch nor MLflow, and fails in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from darkroom.core import strict_json
from darkroom.core.errors import DarkroomError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import dvc_graph, params, recipes, yaml_files
    from darkroom.course import lessons
    from darkroom.data import manifest
    from darkroom.models import factory
    from darkroom.models.backbones import registry as backbones
    from darkroom.studies import registry as studies


ALIASES = ("champion", "challenger")


class Completed(click.ParamType):
    """Text that is completed from a list of values; the command itself checks it, with a remedy of its own."""

    def __init__(self, name: str, values: Callable[[], Iterable[str]]) -> None:
        self.name, self.values = name, values

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(value) for value in self.values() if value.startswith(incomplete)]
        except (DarkroomError, OSError, LookupError, ValueError, TypeError, AttributeError):
            return []


def _setting(section: str, key: str = "") -> list[str]:
    """Return a list in params.yaml."""
    content = yaml_files.read_yaml(Path("params.yaml"))[section]
    return list(content[key] if key else content)


def _checkpoints() -> list[str]:
    """Return the folders below models/ that hold a checkpoint."""
    return sorted(path.parent.as_posix() for path in Path("models").glob("**/model.json"))


def _models() -> list[str]:
    return [*ALIASES, *_checkpoints()]


def _evaluated() -> list[str]:
    """Return the models of the last evaluation that have a checkpoint."""
    models = strict_json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))["models"]
    return [name for name in models if Path("models", name, "model.json").is_file()]


def _classes() -> list[str]:
    return list(strict_json.loads(Path("data/ingested/classes.json").read_text(encoding="utf-8")))


def _images() -> list[str]:
    """Return the paths of the images of the last ingest."""
    path = Path("data/ingested/manifest.parquet")
    return [row.path for row in manifest.read(path) if row.status == "accepted"] if path.exists() else []


def _keys(content: Any, prefix: str = "") -> list[str]:
    """Return `section.key=` of each value."""
    if not isinstance(content, dict):
        return [f"{prefix}="]
    return [key for name, value in content.items() for key in _keys(value, f"{prefix}.{name}" if prefix else str(name))]


DATASET = Completed("dataset", lambda: _setting("fetch", "datasets") or params.DATASETS)
BACKBONE = Completed("backbone", lambda: _setting("backbones"))
SOURCE = Completed("library", lambda: backbones.SOURCES)
KNOWN_BACKBONE = Completed("backbone", lambda: [*backbones.names(), *backbones.prefixed()])
ARCHITECTURE = Completed("architecture", lambda: factory.names())
MODEL = Completed("model", _models)
EVALUATED = Completed("model", _evaluated)
MODEL_OR_ARCHITECTURE = Completed("model", lambda: [*_models(), *factory.names()])
POLICY = Completed("policy", lambda: params.POLICIES)
STUDY = Completed("study", lambda: studies.NAMES)
LESSON = Completed("lesson", lambda: lessons.names())
STAGE = Completed("stage", lambda: dvc_graph.stage_names())
CLASS = Completed("class", _classes)
IMAGE = Completed("image", _images)
VERSION = Completed("version", lambda: ALIASES)
WEIGHTS = Completed("source", lambda: params.SOURCES)
RECIPE = Completed("recipe", lambda: recipes.names())
SETTING = Completed("KEY=VALUE", lambda: _keys(yaml_files.read_yaml(Path("params.yaml"))))

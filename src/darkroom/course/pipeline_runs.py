"""What the pipeline has run here: stages of dvc.lock, and the recipe whose results are in reports/.

dvc.lock has the params with which a stage ran, so that a recipe that was written into params.yaml since then counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.config import dvc_graph, recipes
from darkroom.config.yaml_files import read_yaml

LEADERBOARD = Path("reports/leaderboard.csv")
PARAMS = Path("params.yaml")
TEST = "data/ingested/test"
# what a recipe decides and a person leaves as it is; the source where it names a data set
DECIDED = ("backbones", "fetch.datasets", "ingest.source", "ingest.image_size", "baseline.architecture")


@dataclass(frozen=True)
class PipelineRun:
    """A result of the pipeline: where it is, and the source of its images."""

    path: Path
    source: str


def stage(name: str) -> PipelineRun | None:
    """Return the model of a stage such as transfer@vgg11_bn that has run here, or None."""
    locked = dvc_graph.read_lock()
    kind, _, backbone = name.partition("@")
    path = Path("models", kind, backbone)
    return PipelineRun(path, _source(locked)) if name in locked and (path / "model.json").is_file() else None


def recipe(name: str) -> PipelineRun | None:
    """Return the leaderboard of a whole run with a recipe, or None if the last one was another, or its images are not these."""
    locked = dvc_graph.read_lock()
    if not {"ingest", "evaluate"} <= locked.keys() or not LEADERBOARD.is_file():
        return None
    if locked["evaluate"].deps.get(TEST) != locked["ingest"].outs.get(TEST):
        return None  # other images were read since then
    params: dict[str, str] = {}
    for item in locked.values():
        params |= item.params
    return PipelineRun(LEADERBOARD, _source(locked)) if _has(params, name) else None


def is_written(name: str) -> bool:
    """Return whether params.yaml has what a recipe decides."""
    return PARAMS.is_file() and _has(dvc_graph.flat_params({"": read_yaml(PARAMS)}), name)


def lacks(backbone: str) -> bool:
    """Return whether params.yaml has other backbones, so that there is no stage of this one."""
    return PARAMS.is_file() and backbone not in (read_yaml(PARAMS).get("backbones") or [])


def backbones(name: str) -> list[str]:
    """Return the backbones of a recipe."""
    return list(recipes.values(name).get("backbones", []))


def _has(params: Mapping[str, str], name: str) -> bool:
    decided: dict[str, Any] = {key: value for key, value in recipes.values(name).items() if key in DECIDED}
    return dvc_graph.flat_params({"": decided}).items() <= params.items()


def _source(locked: Mapping[str, dvc_graph.LockedStage]) -> str:
    return locked["ingest"].params.get("ingest.source", "") if "ingest" in locked else ""

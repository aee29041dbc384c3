"""Run the stage register, or make any evaluated model a version of the registered model."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from darkroom.commands import stages
from darkroom.commands.param_types import EVALUATED
from darkroom.config import dvc_graph
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands import stage_inputs
    from darkroom.core import tables
    from darkroom.stages import register


@click.command(cls=Command)
@click.argument("model", type=EVALUATED, required=False)
@json_option
def command(model: str | None, as_json: bool, **paths: Any) -> None:
    """Run the stage register: the selected model → a version in MLflow, the champion if its checks let it.

    With MODEL, such as baseline or finetune/vgg16, that model of the last evaluation becomes a version, the challenger,
    with the verdict of its checks. `darkroom promote` then makes it the champion.
    """
    if model and paths["out"]:
        raise click.UsageError("--out is for the stage, which registers the selected model: MODEL and --out exclude each other")
    if as_json and not model:
        raise click.UsageError("--json needs MODEL; the stage writes its decision to --out")
    if not model:
        stages.fill_paths("register", paths)
        with stage_inputs.unchanged("register"):
            register.run(**paths)
        return
    del paths["out"]
    stages.fill_paths("register", paths, without=["out"])
    _check_current()
    name = _model_name(model, paths["models"])
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        decision = register.run_by_hand(name, **paths)
    if as_json:
        tables.print_json(decision.as_dict())


command.params += stages.path_options("register")


def _model_name(text: str, models: Path) -> str:
    """Return the name that an evaluation uses of a model: without the folder of all models."""
    return text.rstrip("/").removeprefix("./").removeprefix(f"{models.as_posix()}/")


def _check_current() -> None:
    """Raise WorkspaceError where dvc.lock has newer models or images than the evaluation has read."""
    locked = dvc_graph.read_lock()
    if "evaluate" in locked and "evaluate" not in dvc_graph.consistent(locked):
        raise WorkspaceError(
            "stages have run since the last evaluation, so its figures are of other models", "`dvc repro evaluate`"
        )

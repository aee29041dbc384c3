"""The stages of dvc.yaml as commands: `darkroom transfer vgg16` runs one on the paths that dvc.yaml gives it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import click

from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import pathlib

    from darkroom.commands import param_types, stage_inputs, stage_processes
    from darkroom.config import dvc_graph
    from darkroom.core import ranks

PATHS = {
    "augmented": "the views of the training images, by stage augment",
    "backbones": "the folder of a file for each backbone, with what decides its network",
    "classes": "the class names, by stage ingest",
    "cost": "file or folder of times and sizes; they differ from run to run",
    "embedded": "the backbone's embeddings, by stage embed",
    "fixes": "corrected labels, a CSV file",
    "folds": "the results of cross-validation, by stage cross_validate",
    "ingested": "the manifest and the splits, by stage ingest",
    "models": "the folder of checkpoints",
    "out": "the stage's output",
    "provenance": "JSON file with the origin of the weights",
    "report": "the page about the data",
    "reports": "the folder of metrics, plots and pages",
    "splits": "frozen splits, a CSV file",
    "train": "the training split, by stage ingest",
    "transfer": "the checkpoint whose last blocks are trained on, by stage transfer",
    "val": "the validation split, by stage ingest",
    "weights": "the backbone's weights, by stage weights",
}
OPTIONAL = {"splits"}  # a project without the file has none
OWN_COMMAND = {"register"}  # stages whose command does more: a module of its own


class Stage(NamedTuple):
    """A stage's one-line help, the kind of its argument (none, `dataset` or `backbone`), and its options: paths."""

    summary: str
    argument: str
    options: tuple[str, ...]


STAGES = {
    "names": Stage("check the names in params.yaml, before they become paths and parts of commands", "", ("out", "backbones")),
    "fetch": Stage("write a named data set to data/raw", "dataset", ("out",)),
    "ingest": Stage("a folder of images → manifest, splits, arrays", "", ("out", "report", "fixes", "splits")),
    "augment": Stage("Albumentations views of every training image", "", ("train", "out")),
    "baseline": Stage("train a network from scratch", "", ("augmented", "val", "classes", "out", "cost")),
    "weights": Stage("provide a backbone's weights", "backbone", ("out", "provenance")),
    "embed": Stage(
        "run a frozen backbone once over every view", "backbone",
        ("augmented", "val", "classes", "weights", "provenance", "out", "cost"),
    ),
    "transfer": Stage("train a new head on the embeddings", "backbone", ("embedded", "out", "cost")),
    "finetune": Stage(
        "fine-tune the last blocks at a lower learning rate", "backbone", ("augmented", "val", "transfer", "out", "cost")
    ),
    "cross_validate": Stage("train every model again on the other folds", "", ("ingested", "models", "out")),
    "evaluate": Stage("score every model on the test split", "", ("ingested", "models", "cost", "folds", "reports")),
    "diagnose": Stage("diagnostics of the best model, and the report", "", ("ingested", "models", "cost", "reports")),
    "register": Stage("the best model → a version in MLflow", "", ("ingested", "reports", "models", "out")),
}  # fmt: skip


def command(name: str) -> click.Command:
    """Return the command that runs a stage."""
    stage = STAGES[name]
    parameters: list[click.Parameter] = list(path_options(name))
    if stage.argument:
        kind = param_types.DATASET if stage.argument == "dataset" else param_types.BACKBONE
        parameters.insert(0, click.Argument(["name"], type=kind, metavar=stage.argument.upper()))

    def run(**arguments: Any) -> None:
        fill_paths(name, arguments)
        with ranks.member(), stage_inputs.unchanged(name):
            stage_processes.run(name, arguments)

    return Command(name, callback=run, params=parameters, help=f"Run the stage {name}: {stage.summary}.")


def path_options(name: str) -> list[click.Option]:
    """Return the options of a stage: paths, by default those in dvc.yaml."""
    return [
        click.Option(
            [f"--{option}"], type=click.Path(path_type=pathlib.Path), help=f"{PATHS[option]}; default: the path in dvc.yaml"
        )
        for option in STAGES[name].options
    ]


def fill_paths(name: str, arguments: dict[str, Any], without: Collection[str] = ()) -> None:
    """Add the paths that dvc.yaml gives a stage to the arguments of its command, where these have none.

    The options in `without` are not needed.
    """
    options = [option for option in STAGES[name].options if option not in without]
    missing = [option for option in options if arguments[option] is None]
    required = [option for option in options if option not in OPTIONAL]
    if any(option in required for option in missing) or (missing and pathlib.Path("dvc.yaml").exists()):
        paths = dvc_graph.command_options(name, arguments.get("name"))
        arguments.update({option: pathlib.Path(paths[option]) for option in missing if option in paths})
    for option in required:
        if arguments[option] is None:
            raise click.UsageError(f"--{option} is needed: dvc.yaml does not give it")

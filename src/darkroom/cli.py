"""The command `darkroom`: arguments only. Stages and everyday commands are imported when they are called."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import os
import sys
from pathlib import Path

STAGES = {
    "fetch": "write a named data set to data/raw",
    "ingest": "a folder of images → manifest, splits, arrays",
    "augment": "Albumentations views of every training image",
    "baseline": "train a network from scratch",
    "weights": "provide a backbone's weights",
    "embed": "run a frozen backbone once over every view",
    "transfer": "train a new head on the embeddings",
    "finetune": "train the last blocks on, at a lower rate",
    "evaluate": "score every model on the test split",
    "register": "the best model → a version in MLflow",
}
EVERYDAY = {
    "recipe": "write a recipe's values into params.yaml",
    "check": "validate params.yaml and the source folder",
    "leaderboard": "show the last evaluation and where to look next",
    "report": "what the last evaluation found; --compare A B: two of them side by side, folders or git revisions",
    "predict": "say what is on images, by the champion or another model",
    "monitor": "look at images that have arrived: are they like those that the champion was made for?",
    "repro": "run what has to run, as `dvc repro` does, when no other run is at it",
    "flow": "run a Prefect flow: repro, retrain, monitor or study",
    "tidy": "remove what backbones no longer listed left behind",
    "lab": "look inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings",
    "study": "run an experiment: networks that differ in one thing, over seeds, at equal cost",
    "models": "list the registered versions; --history: who was champion when; describe NAME: an architecture, layer by layer",
    "promote": "make a version the champion",
    "rollback": "make the champion before the present one the champion again",
    "compare": "compare runs over their seeds, as a table and a page",
    "lineage": "what was an image used for, what is a model or run made of",
    "sync": "deliver recorded runs to MLflow",
    "upgrade": "bring an older database of MLflow up to date",
    "ui": "open the MLflow UI",
    "completion": "print a script that completes darkroom's words in your shell",
}


def overview() -> str:
    """Return what `darkroom --help` prints."""

    def rows(commands: dict[str, str]) -> str:
        return "\n".join(f"  {name:<12} {text}" for name, text in commands.items())

    return f"""usage: darkroom <command> [options]

Develops an image classifier from a folder of photographs. `dvc repro` runs the stages that need to run, in order.

everyday:
{rows(EVERYDAY)}

stages, one at a time by hand (`darkroom transfer vgg16`), with the paths of dvc.yaml:
{rows(STAGES)}

`darkroom <command> --help` explains a command.
  darkroom recipe photos --data ~/photos     your own folder, one subfolder per class
  dvc repro                                  run what has to run
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 some of it failed, 2 a mistake with a remedy, 75 it may work later."""
    from darkroom.core.errors import DarkroomError, ParamsError, nearest

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(overview())
            return 0
        if arguments[0] == "--version":
            from darkroom import __version__

            print(f"darkroom {__version__}")
            return 0
        command, rest = arguments[0], arguments[1:]
        if command == "complete":  # what the scripts of `darkroom completion` ask
            from darkroom.commands import completion

            print("\n".join(completion.candidates(rest)))
            return 0
        if command == "finished":  # what a flow says at its end
            from darkroom.commands import finish_pipeline

            return finish_pipeline.main(rest)
        if command in STAGES:
            return _stage(command, rest)
        if command in EVERYDAY:
            module = importlib.import_module(f"darkroom.commands.{command}")
            return int(module.main(rest) or 0)
        raise ParamsError(f'there is no command "{command}"{nearest(command, [*STAGES, *EVERYDAY])}', "see `darkroom --help`")
    except DarkroomError as error:
        print(f"error: {error}", file=sys.stderr)
        _restore()
        return error.code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"error: {error}\n  remedy: look at the rights and the free space of that place", file=sys.stderr)
        _restore()
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def run() -> None:
    """Run a command as a process of its own, and end it."""
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    processes = sys.modules.get("multiprocessing")
    if "torch" in sys.modules and processes and not processes.active_children():
        os._exit(code)  # everything is written and closed; taking torch apart would take most of a second
    raise SystemExit(code)


def _stage(stage: str, arguments: list[str]) -> int:
    """Run one stage; options that are not given are taken from the stage's command in dvc.yaml."""
    module = importlib.import_module(f"darkroom.stages.{stage}")
    parser = argparse.ArgumentParser(f"darkroom {stage}", description=module.__doc__)
    options = []
    for parameter in inspect.signature(module.run).parameters.values():
        if parameter.name == "name":
            parser.add_argument("name", help="the data set" if stage == "fetch" else "the backbone")
        else:
            options.append(parameter.name)
            parser.add_argument(f"--{parameter.name}", type=Path, metavar="PATH", help="default: that of dvc.yaml")
    given = vars(parser.parse_args(arguments))
    if any(given[option] is None for option in options):
        from darkroom.config.dvc_graph import command_options

        standard = command_options(stage, given.get("name"))
        given.update({key: Path(standard[key]) for key in options if given[key] is None and key in standard})
    for option in options:
        if given[option] is None:
            parser.error(f"--{option} is needed: dvc.yaml does not give it")
    module.run(**given)
    return 0


def _restore() -> None:
    """Inside `dvc repro`, which removes a stage's outputs before it runs: bring back what a refused run would have lost."""
    stage = os.environ.get("DVC_STAGE")
    if stage:
        from darkroom.config.dvc_graph import restore

        for path in restore(stage.rpartition(":")[2]):
            print(f"  kept: {path}, as it was before", file=sys.stderr)

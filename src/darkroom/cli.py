"""The command `darkroom`: a group that imports a command when it is called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from darkroom import __version__
from darkroom.commands import stages
from darkroom.core.command_line import COMPLETE, DEBUG, LazyGroup, debug_option, removed_folder, report
from darkroom.core.errors import DarkroomError, ParamsError, WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from click import shell_completion

    from darkroom.config import dvc_graph, stage_code
    from darkroom.core import machine_limits

COMMANDS = {
    "new": "make a project in a new folder",
    "update": "carry a project to the installed Darkroom: its files, and an older MLflow database",
    "recipe": "write a recipe's values into params.yaml",
    "check": "say what a run will do and take, and what would stop it",
    "plan": "say what each stage of a run will take: time, memory, bytes on the disk",
    "doctor": "look at the machine, the installation and the project, with remedies",
    "fix": "correct labels, one by one or from the candidates of the last evaluation",
    "label": "label images on a page: doubtful ones, mistakes, conflicts, and new images that teach most",
    "splits": "freeze which images are for training, validation and testing",
    "leaderboard": "show the last evaluation",
    "report": "explain the last evaluation, or compare two of them",
    "predict": "classify images, by the champion or another model",
    "export": "write a model as a program that runs without Darkroom: ONNX, OpenVINO or torch.export",
    "export-data": "write the ingested images as Parquet, for the Hugging Face Hub, or as tars of samples, for WebDataset",
    "monitor": "detect drift in new photographs",
    "repro": "run the stages that are out of date; one run at a time per workspace",
    "flow": "run a Prefect flow: repro, retrain, monitor, study or tidy",
    "schedule": "start, show or stop the server and the worker of scheduled flows",
    "worker": "run stages of other machines' flows here, as a worker of a work pool",
    "verify": "run stages again and compare what they write, or hash files again that dvc.lock names",
    "tidy": "remove outputs of backbones that params.yaml no longer lists, and old history",
    "lab": "look inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings",
    "study": "run an experiment: networks that differ in one thing, over seeds, at equal cost",
    "course": "list the lessons of the course, keep your predictions and compare them with your own runs",
    "models": "list the registered versions or networks of a library, or describe a network",
    "backbones": "rank frozen backbones on this project's images: accuracy, and what an image costs",
    "tune": "search better settings for heads and fine-tuning, and say what they gain",
    "promote": "make a version the champion",
    "rollback": "make the previous champion the champion again",
    "compare": "compare runs over their seeds, as a table and a page",
    "lineage": "trace an image to models, or a model to images",
    "sync": "upload recorded runs to MLflow",
    "ui": "open the MLflow UI",
    "completion": "print the completion script of a shell",
}
STAGES = {name: stage.summary for name, stage in stages.STAGES.items()}


class Darkroom(LazyGroup):
    """The group of all commands; its `main` turns errors into messages and exit codes."""

    def load(self, name: str) -> click.Command:
        if name == "finished":
            return super().load("finish_pipeline")
        return stages.command(name) if name in STAGES and name not in stages.OWN_COMMAND else super().load(name)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, complete_var: str | None = None,
        standalone_mode: bool = True, **extra: Any,
    ) -> int:  # fmt: skip
        """Run a command; end the process with its exit code, or return it where `standalone_mode` is false."""
        debug = os.environ.get(DEBUG)
        try:
            code = self._run(list(sys.argv[1:] if args is None else args), prog_name or "darkroom")
        finally:
            os.environ.pop(DEBUG, None)
            os.environ.update({} if debug is None else {DEBUG: debug})
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, args: list[str], name: str) -> int:
        if COMPLETE in os.environ:
            return shell_completion.shell_complete(self, {}, name, COMPLETE, os.environ[COMPLETE])
        try:
            with self.make_context(name, args) as context:
                return int(self.invoke(context) or 0)
        except click.exceptions.Exit as error:
            return error.exit_code
        except BrokenPipeError:  # of `darkroom … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KeyboardInterrupt, click.Abort):
            click.echo("stopped", err=True)
            return 130
        except Exception as error:
            if not isinstance(error, (DarkroomError, OSError, click.ClickException)) and not machine_limits.explain(error):
                raise
            code = report(removed_folder() or (error if "update" in args else _cause(error)))
            _restore_outputs()
            return code


group = Darkroom(
    "darkroom",
    package="darkroom.commands",
    sections={"Commands": COMMANDS, "Stages, on the paths of dvc.yaml": STAGES},
    hidden=("finished", "study-member"),
    help="""Develop an image classifier from a folder of photographs. `dvc repro` runs the stages that are out of date, in order.

    \b
    darkroom new flowers --data ~/photos       make a project of your own folder, one subfolder per class
    darkroom recipe photos --data ~/photos     or put it into the project that is here
    darkroom repro                             run the stages that are out of date""",
    epilog="`darkroom COMMAND --help` explains a command. Exit codes: 0 done, 1 some failed, 2 mistake with a remedy, "
    "3 drift, 75 retry later, 130 interrupted.",
)
group = debug_option(click.version_option(__version__, message="darkroom %(version)s")(group))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 some failed, 2 a mistake with a remedy, 3 drift, 75 retry later,
    130 interrupted."""
    return group.main(argv, standalone_mode=False)


def run() -> None:
    """Run a command as a process of its own, and end it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that is not UTF-8 shows ? for what it lacks
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    processes = sys.modules.get("multiprocessing")
    if "torch" in sys.modules and processes and not processes.active_children():
        os._exit(code)  # everything is written and closed; unloading torch takes most of a second
    raise SystemExit(code)


def _cause(error: BaseException) -> BaseException:
    """Return why params.yaml is refused in a project that has not been carried to this Darkroom: that, not its keys."""
    if isinstance(error, ParamsError) and error.problem.startswith("params.yaml"):
        try:
            stage_code.check()
        except WorkspaceError as cause:
            return cause
    return error


def _restore_outputs() -> None:
    """Inside `dvc repro`, which removes a stage's outputs before it runs: restore those that a refused stage would have lost."""
    stage = os.environ.get("DVC_STAGE")
    with contextlib.suppress(OSError):  # a full disk: `dvc checkout` restores them when it has room
        for path in dvc_graph.restore(stage.rpartition(":")[2]) if stage else []:
            click.echo(f"  kept: {path}, as it was before", err=True)

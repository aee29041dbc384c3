"""Make a project: a folder with a graph, params and deployments of its own, known to git and DVC."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

import click

from darkroom.commands.param_types import RECIPE, SETTING, WEIGHTS
from darkroom.core import atomic, git, user_paths
from darkroom.core.command_line import Command, Many
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands import check
    from darkroom.config import params, recipes
    from darkroom.preflight import plan, plan_text, project, remote_source
    from darkroom.project import template


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--data", metavar="PHOTOS", type=click.Path(), help="your folder of images, one subfolder per class, or an address")
@click.option(
    "--recipe",
    type=RECIPE,
    help="the values to begin with: `darkroom recipe --list`",
    show_default="photos with --data, else digits",
)
@click.option("--weights", metavar="SOURCE", type=WEIGHTS, help="imagenet, package, pretrain, random, or a folder of weight files")
@click.option("--set", "settings", cls=Many, metavar="KEY=VALUE …", type=SETTING, help="single values: transfer.lr=0.01")
def command(folder: Path, data: str | None, recipe: str | None, weights: str | None, settings: tuple[str, ...]) -> None:
    """Make a project in the new or empty folder DIR, which uses the installed Darkroom.

    It has dvc.yaml, params.yaml, prefect.yaml, data/, a README, and is a git and DVC repository; in a git repository it becomes a
    part of that one. Then say what a run will do, as `darkroom check` does. Where an option is wrong no folder is made.

    \b
    darkroom new flowers --data ~/photos/flowers
    cd flowers && darkroom repro
    """
    place = user_paths.expand(str(folder), "DIR", "a new folder")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise WorkspaceError(
            f"{place} exists and is not empty", "name a new folder; `darkroom update` carries a project to this Darkroom"
        )
    paths = [_absolute(value, origin) for value, origin in ((data, "--data"), (weights, "--weights"))]
    name = recipe or ("photos" if data else "digits")
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(place.absolute()) as working:
        for path, text in template.files(place.resolve().name).items():
            (working / path).parent.mkdir(parents=True, exist_ok=True)
            (working / path).write_text(text, encoding="utf-8")
        with contextlib.chdir(working):
            content = _fill(name, paths[0], paths[1], settings)
    with contextlib.chdir(place):
        is_new = git.init()
        _dvc("init", "--quiet", *([] if is_new else ["--subdir"]))
        for path, text in template.dvc_files().items():
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        git.add(".")
        click.echo("\n".join(plan_text.lines(plan.make(params.read(), content))))
    click.echo(f"\nmade       {place}\nrun it     cd {shlex.quote(str(place))} && darkroom repro")


def _absolute(value: str | None, origin: str) -> str | None:
    """Return a folder by its whole path, since the project is elsewhere; a word such as `imagenet` stays one."""
    if value is None or value in params.SOURCES or (origin == "--data" and user_paths.is_address(value)):
        return value
    return str(user_paths.expand(value, origin).absolute())


def _fill(recipe: str, data: str | None, weights: str | None, settings: tuple[str, ...]) -> plan.Content:
    """Write the values into params.yaml of this folder; return what the source holds."""
    contents: list[plan.Content] = []

    def verify(values: params.Params) -> None:
        project.check_place(values)
        contents.append(check.check_params(values))

    requested = recipes.requested_values(recipe, data, weights, settings, remote_source.locate)
    recipes.apply(Path("params.yaml"), requested, verify, recipes.origins(recipe, data, weights, settings))
    return contents[0]


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ParamsError(f"`dvc {arguments[0]}` failed: {(done.stderr or done.stdout).strip()}", "see `dvc doctor`")

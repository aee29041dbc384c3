"""Carry a project to the installed Darkroom: its files, and the database of its MLflow."""

from __future__ import annotations

import click

from darkroom.config import stage_code
from darkroom.core import locks
from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.project import update
    from darkroom.tracking import mlflow_client, uploader


@click.command(cls=Command)
def command() -> None:
    """Carry the project in this folder to the installed Darkroom, after an upgrade of it.

    Graph, deployments and params.yaml get what is new, your values and changes stay, and the stages are named that run again
    since their code has changed. A file that you and Darkroom have changed in the same places is left alone, and named.

    An older MLflow database is upgraded; a copy of it is kept. In the repository of Darkroom that is all.
    """
    is_project = stage_code.is_used()
    if is_project:
        with locks.workspace("darkroom update", lambda text: click.echo(text, err=True)):
            _update_files()
    file = home.database()
    if (file is not None and file.exists()) or not is_project:
        _upgrade_database()


def _update_files() -> None:
    planned = update.plan()
    update.write(planned)
    for change in planned.changes:
        click.echo(change)
    if planned.stages:
        click.echo(
            f"run again, since their code has changed: {', '.join(planned.stages)}; later stages where they write something else"
        )
    if planned.texts:
        versions = planned.after if planned.before == planned.after else f"{planned.before} → {planned.after}"
        click.echo(
            f"Darkroom {versions}: written {', '.join(planned.texts)}; `git diff` shows the changes, `darkroom repro` runs them"
        )
    else:
        click.echo(f"the project is up to date with Darkroom {planned.after}")


def _upgrade_database() -> None:
    backup = mlflow_client.upgrade()
    if backup is None:
        click.echo(f"{home.uri()} is up to date already")
        return
    click.echo(f"{home.uri()} is upgraded; the database as it was is {backup}")
    if records.is_pending():
        count = uploader.sync()
        click.echo(f"{count} recorded run{'s' * (count != 1)} uploaded")

"""Upload recorded runs to MLflow, or restore its database."""

from __future__ import annotations

import click

from darkroom.core.command_line import Command
from darkroom.core.errors import masked
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.api import promotion_file
    from darkroom.config import params
    from darkroom.models import weight_files
    from darkroom.tracking import backups, restore, uploader


@click.command(cls=Command)
@click.option(
    "--restore", "is_restore", is_flag=True,
    help="first put the newest backup in the place of an mlflow.db that is damaged or missing",
)  # fmt: skip
def command(is_restore: bool) -> int:
    """Upload the recorded runs that MLflow does not have yet.

    Exit code 1: a record could not be uploaded; it is kept, and its reason is printed.
    """
    if is_restore:
        _restore()
    if not (records.is_pending() or records.damaged()):
        click.echo("every run is in MLflow already")
        return 0
    count = uploader.sync()
    running = len(records.pending())
    more = f", {running} still running" if running else ""
    click.echo(f"{count} run{'s' * (count != 1)} uploaded to {masked(home.uri())}{more}")
    damaged = records.damaged()
    for name, reason in damaged.items():
        click.echo(f"{home.DAMAGED / name} cannot be uploaded: {reason}")
    if damaged:
        click.echo("`darkroom sync` tries these again once the reason is mended; to give one up, delete its folder")
    return 1 if damaged else 0


def _restore() -> None:
    """Restore the database, and say what is back and what is not."""
    name = params.read().register_.name
    restored = restore.restore(name, promotion_file.history(), weight_files.checkpoint_digest)
    if restored is None:
        click.echo("mlflow.db is whole: nothing to restore; to go back to a backup all the same, move mlflow.db away first")
        return
    click.echo("end what still uses the former database, as `darkroom ui` does, and start it again")
    if restored.former:
        click.echo(f"the database as it was is {restored.former}")
    click.echo(
        f"mlflow.db is the backup {restored.backup}; runs uploaded since are not in it"
        if restored.backup
        else "there was no backup that this MLflow can read: mlflow.db is new, without the runs of before"
    )
    if newer := backups.newer():
        click.echo(f"of a newer MLflow, and kept for it: {', '.join(map(str, newer))}")
    if restored.versions:
        click.echo(f"versions of {name} added from mlruns/: {', '.join(restored.versions)}")
    if restored.champion:
        click.echo(f"version {restored.champion} is the champion, by {promotion_file.FILE} of this folder and its commits")
    click.echo("`darkroom models --history` lists the champions; `darkroom promote VERSION` repeats a choice that is lacking")

"""Say what each stage of a run will take."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import SourceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands import check
    from darkroom.config import params
    from darkroom.core import tables
    from darkroom.preflight import plan, plan_text, project, remote_source


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Say what each stage of a run will take on this machine: time, memory and bytes on the disk.

    Files are listed, none is decoded, and nothing is written. Stages of which the results are there already are in it, too.
    """
    project.check_merged(Path("params.yaml"))
    settings = params.read()
    planned = plan.make(settings, check.check_run(settings, runs=False))
    if not planned.seconds:
        raise SourceError(
            f"the images of {planned.source} are not known: {planned.content.unread}",
            "run `darkroom repro ingest`"
            if remote_source.is_copy(settings)
            else "unpack it, and name the folder in `ingest.source`",
        )
    if as_json:
        tables.print_json(
            {
                "stages": plan_text.stages_as_json(planned),
                "busy": planned.busy,
                "notes": list(planned.content.notes),
                "warnings": list(planned.warnings),
            }
        )
        return
    tables.show(["stage", "time", "memory", "written"], plan_text.stages(planned), right=["time", "memory", "written"])
    click.echo("\n".join(plan_text.notes(planned)))

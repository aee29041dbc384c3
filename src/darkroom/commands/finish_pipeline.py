"""Record that a pipeline has ended, and upload its runs to MLflow: flows call `darkroom finished` at their end."""

from __future__ import annotations

import os

import click

from darkroom.core.command_line import Command
from darkroom.tracking import pipelines, records, requests


@click.command(cls=Command, hidden=True)
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.option("--pipeline", "name", metavar="NAME", help="the pipeline's name", show_default="DARKROOM_PIPELINE")
@click.option("--where", is_flag=True, help="print the pipeline's address in MLflow")
def command(stages: tuple[str, ...], name: str | None, where: bool) -> None:
    """Record that a pipeline which checked these stages has ended, and upload its runs to MLflow."""
    if name:
        os.environ["DARKROOM_PIPELINE"] = name
    pipeline = None if records.is_off() else pipelines.join()
    if pipeline:
        arguments = {"key": pipeline.key, "name": pipeline.name}
        if where and (response := requests.send("darkroom.tracking.queries:pipeline_address", arguments)):
            click.echo(response["result"])
        pipelines.close(pipeline, list(stages))
        records.start_uploader()

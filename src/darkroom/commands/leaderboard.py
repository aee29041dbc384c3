"""Show the last evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import click

from darkroom.core.command_line import Command, json_option
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.evaluation import leaderboard, metrics_io

REPORTS = Path("reports")


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Show the last evaluation, best test accuracy first; an arrow marks the model that validation selected."""
    best = metrics_io.read(REPORTS / metrics_io.METRICS, metrics_io.Metrics).best
    rows = leaderboard.read(REPORTS / "leaderboard.csv")
    promotion = REPORTS / "promotion.json"
    registered = json.loads(promotion.read_text(encoding="utf-8")).get("registered") if promotion.exists() else None
    if as_json:
        models = [row.model_dump(include=set(leaderboard.COLUMNS)) for row in rows]
        tables.print_json({"best": best, "registered": registered, "models": models})
        return
    tables.show(leaderboard.HEADER, leaderboard.cells(rows, best), right=leaderboard.HEADER[1:])
    version = ""
    if registered:
        aliases = ", ".join(registered["aliases"])
        version = f" and is version {registered['version']} of the registered model {registered['name']} ({aliases})"
    click.echo(f"\n→ {best} was selected on validation{version}")
    click.echo("report     reports/report.html\nruns       make ui\ntry this   change transfer.lr in params.yaml, then `dvc repro`")

"""Show the last evaluation."""

from __future__ import annotations

from dataclasses import asdict

import click

from darkroom.core.command_line import Command, json_option, runnable
from darkroom.core.errors import DarkroomError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.api import model_resolver, project, promotion_file
    from darkroom.config import params
    from darkroom.core import tables
    from darkroom.evaluation import cost, leaderboard, learning_curve
    from darkroom.tracking import home, registry


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Show the last evaluation, best test accuracy first; an arrow marks the selected model."""
    opened = project.open()
    evaluated = opened.leaderboard()
    metrics, rows, best = evaluated.metrics, evaluated.rows, evaluated.best
    selected = leaderboard.describe_selection(metrics)
    decision = promotion_file.read()
    registered, without = decision.registered, _describe_no_champion(decision)
    if as_json:
        models = [row.model_dump(include=set(leaderboard.COLUMNS)) for row in rows]
        chosen = metrics.selection.model_dump(mode="json") if metrics.selection else None
        tables.print_json(
            {
                "best": best,
                "selection": chosen,
                "registered": registered and asdict(registered),
                "no_champion": without or None,
                "models": models,
            }
        )
        return
    leaderboard.show(rows, metrics)
    click.echo(f"\n→ {selected or best + ' was selected on validation.'}")
    elsewhere = promotion_file.registered_elsewhere(decision) if home.is_registry_empty() else ""
    if elsewhere:
        click.echo(f"  {elsewhere[0].upper()}{elsewhere[1:]}: {promotion_file.REGISTER_HERE}.")
    elif registered:
        aliases = ", ".join(registered.aliases)
        click.echo(f"  It is version {registered.version} of the registered model {registered.name} ({aliases}).")
    if without:
        click.echo(f"  {without}")
    if (diagnosed := opened.diagnostics) and (curve := diagnosed.learning_curve):
        click.echo(f"  {learning_curve.describe(curve)}")
    if busy := cost.busy_note(row.busy for row in rows):
        click.echo(f"  {busy}")
    click.echo("report     reports/report.html")
    click.echo(runnable("runs       `darkroom ui`\ntry this   change transfer.lr in params.yaml, then `dvc repro`"))


def _describe_no_champion(decision: promotion_file.Decision) -> str:
    """Return why there is no champion and what to do, where the last decision left none; MLflow is asked only then."""
    registered, verdict = decision.registered, decision.verdict
    if registered is None:
        return "the last run has registered nothing: `dvc repro -f -s register` does it, unless DARKROOM_TRACKING is off"
    if registry.CHAMPION in registered.aliases or (verdict and verdict.champion):
        return ""
    try:
        versions = registry.versions(registered.name)
        if any(registry.CHAMPION in item.aliases for item in versions):
            return ""
        error: DarkroomError = model_resolver.no_champion(registered.name, versions, params.read().register_.promote)
    except DarkroomError as problem:
        error = problem
    return f"{error.problem}\n  remedy: {error.remedy}"

"""Look at the machine, the installation and the project, and name what would go wrong with its remedy."""

from __future__ import annotations

from dataclasses import asdict

import click

from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.preflight import machine
    from darkroom.tracking import home

MARKS = {"ok": " ", "note": "!", "fault": "✗"}


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> int:
    """Look at cores, memory, disk, GPU, packages, servers, the remote and the project's folder; change nothing.

    Each fault has its remedy. The exit code is 1 where there is one. `darkroom check` says what a run will do.
    """
    findings = list(machine.examine(home.uri()))
    if as_json:
        tables.print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{MARKS[finding.state]} {finding.subject:{width}}  {printable(finding.text)}")
            if finding.remedy:
                click.echo(f"  {'':{width}}  → {printable(finding.remedy)}")
    return int(any(finding.state == machine.FAULT for finding in findings))

"""Artifacts in Prefect's pages: progress, leaderboard, promotion decision, drift, links to reports."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from darkroom.core import strict_json

INTERVAL = 5.0  # seconds between two updates
PROGRESS = re.compile(r"^(?P<activity>[^:]+): (?P<done>[\d,]+) of (?P<total>[\d,]+) \S")


class ProgressArtifact:
    """The progress bar of a stage, updated from the lines that `darkroom.core.progress` writes."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.artifact_id: UUID | None = None
        self.updated = -INTERVAL
        self.activity = ""

    def update(self, line: str) -> None:
        match = PROGRESS.match(line)
        if not match:
            return
        done, total = (int(match[group].replace(",", "")) for group in ("done", "total"))
        now = time.monotonic()
        if total == 0 or (now - self.updated < INTERVAL and done < total and match["activity"] == self.activity):
            return
        self.updated, self.activity, percent = now, match["activity"], min(100.0, 100 * done / total)
        with suppress(Exception):  # a stage does not fail for its progress bar
            if self.artifact_id is None:
                created: Any = create_progress_artifact(percent, key=_key("progress", self.stage), description=line)
                self.artifact_id = created
            else:
                update_progress_artifact(self.artifact_id, progress=percent, description=line)


def show_outputs(folder: Path, outs: Iterable[str]) -> None:
    """Show those of the outputs that are a leaderboard, a promotion decision, a report or a study."""
    paths = {Path(out).name: folder / out for out in outs}
    for path in paths.values():
        if (summary := path / "summary.json").exists():
            _show_study(strict_json.loads(summary.read_text(encoding="utf-8")), path / "index.html")
    if (table := paths.get("leaderboard.csv")) and table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            rows = [{key: _round(value) for key, value in row.items()} for row in csv.DictReader(file)]
        create_table_artifact(rows, key="leaderboard", description=f"`{table}`")
    if (decision := paths.get("promotion.json")) and decision.exists():
        create_markdown_artifact(promotion_markdown(strict_json.loads(decision.read_text(encoding="utf-8"))), key="promotion")
    if (page := paths.get("report.html")) and page.exists():
        address = page.resolve().as_uri()
        create_link_artifact(address, "reports/report.html", key="report", description=f"The report of this evaluation: `{page}`")


def _show_study(summary: dict[str, Any], page: Path) -> None:
    name = str(summary["study"])
    text = f"# {name}\n\n{summary['question']}\n\n**{summary['finding']}**\n\n{summary['held_constant']}"
    create_markdown_artifact(text, key=_key("study", name))
    if page.exists():
        create_link_artifact(page.resolve().as_uri(), str(page), key=_key("study", name, "page"), description=f"`{page}`")


def show_mlflow_run(location: str) -> None:
    """Show where this run is in MLflow: an address or a description."""
    if location.startswith("http"):
        create_link_artifact(location, "this run in MLflow", key="mlflow", description="Its stages: params, metrics, plots.")
    elif location:
        create_markdown_artifact(f"In MLflow, which `darkroom ui` opens: {location}", key="mlflow")


def show_drift(check: dict[str, Any], page: Path) -> None:
    """Show the result of a drift check and a link to its page."""
    title = "Drift" if check["drifted"] else "No drift" if check["tests"] else "Too few images"
    lines = [
        f"# {title}",
        f"{check['summary'][0].upper()}{check['summary'][1:]}.",
        f"{check['description']}: {check['new']} new images.",
    ]
    if check["tests"]:
        rows = [(test["name"], f"{test['size']:.3f}", f"{test['limit']:g}", f"{test['corrected']:.4f}",
                 "**drift**" if test["drifted"] else "same") for test in check["tests"]]  # fmt: skip
        lines.append(_table(("", "size", "limit", "p", ""), rows))
    if check["flags"]:
        lines += ["Flags: " + ", ".join(f"{count} {name}" for name, count in check["flags"].items()) + "."]
    lines.append(f"The images, and the history of checks: [{page}]({page.resolve().as_uri()}).")
    create_markdown_artifact("\n\n".join(lines), key="drift")
    create_link_artifact(page.resolve().as_uri(), str(page), key="monitoring", description=f"The latest images: `{page}`")


def promotion_markdown(decision: dict[str, Any]) -> str:
    """Return the decision of `register`, with every check, as Markdown."""
    version = decision.get("registered") or {}
    aliases = version.get("aliases", [])
    title = "Promoted" if decision.get("promoted") else "The champion stays" if "champion" in aliases else "Not promoted"
    place = f" is version {version['version']} of {version['name']} ({', '.join(aliases)})" if version else " is not registered"
    text = f"# {title}\n**{decision['model']}**{place}; test accuracy {decision['accuracy']:.4f}."
    if verdict := decision.get("verdict"):
        failed = "**veto**" if verdict.get("vetoed", True) else "no"
        rows = [(check["name"], "passed" if check["passed"] else failed, check["message"]) for check in verdict["checks"]]
        text += "\n\n" + _table(("check", "", ""), rows)
    return text


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    cells = [header, ("---",) * len(header), *(tuple(text.replace("|", "\\|").replace("\n", " ") for text in row) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _round(text: str) -> str:
    """Return a number with four decimals at most, and other text as it is."""
    try:
        return f"{float(text):.4f}".rstrip("0").rstrip(".") if "." in text else text
    except ValueError:
        return text


def _key(*parts: str) -> str:
    """Return the key of an artifact: Prefect allows lower-case letters, digits and dashes."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)

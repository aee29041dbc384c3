"""What flows show in Prefect's pages: how far a stage is, the leaderboard, the verdict on the best model, where to look next."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

EVERY = 5.0  # seconds between two updates
_PROGRESS = re.compile(r"^(?P<what>[^:]+): (?P<done>[\d,]+) of (?P<total>[\d,]+) \S")


class Progress:
    """The progress artifact of a stage, moved by the lines that the stage writes."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.known: Any = None
        self.moved = 0.0
        self.what = ""

    def line(self, line: str) -> None:
        found = _PROGRESS.match(line)
        if not found:
            return
        done, total = (int(found[part].replace(",", "")) for part in ("done", "total"))
        now = time.monotonic()
        if total == 0 or (now - self.moved < EVERY and done < total and found["what"] == self.what):
            return
        self.moved, self.what, share = now, found["what"], min(100.0, 100 * done / total)
        with suppress(Exception):  # it is there to be looked at, and no reason for a stage to fail
            if self.known is None:
                self.known = create_progress_artifact(share, key=_key("progress", self.stage), description=line)
            else:
                update_progress_artifact(self.known, progress=share, description=line)


def results(folder: Path, outs: Iterable[str]) -> None:
    """Show those of the outputs that people want to see."""
    places = {Path(out).name: folder / out for out in outs}
    for place in places.values():
        if (found := place / "summary.json").exists():
            study(json.loads(found.read_text(encoding="utf-8")), place / "index.html")
    if (table := places.get("leaderboard.csv")) and table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            rows = [{key: _short(value) for key, value in row.items()} for row in csv.DictReader(file)]
        create_table_artifact(rows, key="leaderboard", description=f"`{table}`")
    if (verdict := places.get("promotion.json")) and verdict.exists():
        create_markdown_artifact(promotion(json.loads(verdict.read_text(encoding="utf-8"))), key="promotion")
    if (page := places.get("report.html")) and page.exists():
        address = page.resolve().as_uri()
        create_link_artifact(address, "reports/report.html", key="report", description=f"The report of this evaluation: `{page}`")


def study(summary: dict[str, Any], page: Path) -> None:
    """Show what a study found, and where its page is."""
    name = str(summary["study"])
    text = f"# {name}\n\n{summary['question']}\n\n**{summary['finding']}**\n\n{summary['equal']}"
    create_markdown_artifact(text, key=_key("study", name))
    if page.exists():
        create_link_artifact(page.resolve().as_uri(), str(page), key=_key("study", name, "page"), description=f"`{page}`")


def runs(where: str) -> None:
    """Show where this run is in MLflow: an address, or in words."""
    if where.startswith("http"):
        create_link_artifact(where, "this run in MLflow", key="mlflow", description="Its stages: params, metrics, plots.")
    elif where:
        create_markdown_artifact(f"In MLflow, which `make ui` opens: {where}", key="mlflow")


def drift(check: dict[str, Any], page: Path = Path("reports/monitoring/index.html")) -> None:
    """Show what a look at new images came to, and where its page is."""
    title = "Drift" if check["drifted"] else "No drift" if check["tests"] else "Too few images"
    lines = [f"# {title}", f"{check['words'][0].upper()}{check['words'][1:]}.", f"{check['said']}: {check['new']} new images."]
    if check["tests"]:
        rows = [(item["name"], f"{item['size']:.3f}", f"{item['limit']:g}", f"{item['corrected']:.4f}",
                 "**drift**" if item["drifted"] else "same") for item in check["tests"]]  # fmt: skip
        lines.append(
            "\n".join(["| | size | limit | p | |", "| --- | --- | --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)])
        )
    if check["flags"]:
        lines += ["Pictures: " + ", ".join(f"{count} {name}" for name, count in check["flags"].items()) + "."]
    create_markdown_artifact("\n\n".join(lines), key="drift")
    if page.exists():
        create_link_artifact(page.resolve().as_uri(), str(page), key="monitoring", description=f"The last images: `{page}`")


def promotion(decision: dict[str, Any]) -> str:
    """Return what `register` decided, with every check, as Markdown."""
    known = decision.get("registered") or {}
    aliases = known.get("aliases", [])
    title = "Promoted" if decision.get("promoted") else "The champion stays" if "champion" in aliases else "Not promoted"
    of = f" is version {known['version']} of {known['name']} ({', '.join(aliases)})" if known else " is not registered"
    lines = [f"# {title}", f"**{decision['model']}**{of}: {decision['accuracy']:.4f} of the test images right."]
    if verdict := decision.get("verdict"):
        rows = [(item["name"], "passed" if item["passed"] else "**veto**", item["words"]) for item in verdict["checks"]]
        lines += ["", "| check | | |", "| --- | --- | --- |", *(f"| {' | '.join(map(_cell, row))} |" for row in rows)]
    return "\n".join(lines)


def _short(text: str) -> str:
    """Return a number with four decimals at most, and other text as it is."""
    try:
        return f"{float(text):.4f}".rstrip("0").rstrip(".") if "." in text else text
    except ValueError:
        return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _key(*parts: str) -> str:
    """Return a key of an artifact, which Prefect wants in lower case, with dashes."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)

"""Show the last evaluation, and where to look next."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from darkroom.core.errors import WorkspaceError


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("darkroom leaderboard", description=__doc__).parse_args(arguments)
    from darkroom.evaluation import leaderboard, metrics_io

    reports = Path("reports")
    best = metrics_io.read(reports / metrics_io.METRICS)["best"]
    try:
        rows = leaderboard.read(reports / "leaderboard.csv")
    except FileNotFoundError as error:
        raise WorkspaceError(
            f"{error.filename} is not there: nothing has been evaluated yet", "run `make repro` or `dvc repro`"
        ) from error
    print(leaderboard.table(rows, best))
    promotion = reports / "promotion.json"
    registered = json.loads(promotion.read_text()).get("registered") if promotion.exists() else None
    print(f"\n→ {best} was chosen on validation" + (
        f" and is version {registered['version']} of the registered model {registered['name']} ({', '.join(registered['aliases'])})"
        if registered else ""
    ))  # fmt: skip
    print("report     reports/report.html\nruns       make ui\ntry this   change transfer.lr in params.yaml, then `dvc repro`")
    return 0

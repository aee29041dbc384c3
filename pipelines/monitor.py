"""For a schedule: look at images that have arrived, and tell when they are no longer like those that the champion was made for.

Where a drift begins it emits the event `darkroom.drift`, which starts `retrain` in prefect.yaml. Without new images it is
*Skipped*.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.events import emit_event
from prefect.states import Completed, Failed, State
from pydantic import Field

from darkroom.core.errors import EX_TEMPFAIL, MISTAKE
from pipelines import artifacts, flow_runtime, server

DRIFT = "darkroom.drift"
TOLD = Path("reports/monitoring/told")  # the checkpoint of whose drift the event has told
Size = Annotated[float, Field(gt=0)]


@flow(name="monitor", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def monitor(
    folders: list[str] | None = None,
    model: str = "champion",
    window: Annotated[int, Field(ge=2)] = 500,
    least: Annotated[int, Field(ge=2)] = 20,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    limits: dict[str, Size] | None = None,
    time_limit: Annotated[float, Field(gt=0)] = 60,
) -> State[Any]:
    """Look at images that have arrived.

    Args:
        folders: where images arrive; `data/inbox` if there are none.
        model: who answers: champion, another alias, a version, or a checkpoint folder.
        window: the last so many images are compared with held-out images of the data set.
        least: of fewer images nothing is said.
        alpha: significance, corrected for three tests.
        limits: the size from which a difference counts, by `embeddings`, `classes`, `confidence`.
        time_limit: minutes that it may take.
    """
    asked = folders or ["data/inbox"]
    there = [folder for folder in asked if Path(folder).expanduser().exists()]
    words = ["monitor", *there, "--json", "--model", model, "--window", str(window), "--least", str(least)]
    words += ["--alpha", str(alpha)]
    if limits:
        words += ["--limit", *(f"{kind}={size}" for kind, size in limits.items())]

    def work(ends: list[Callable[[], object]]) -> State[Any]:
        if missing := [folder for folder in asked if folder not in there]:
            print(f"there is no {', '.join(missing)}")
        if not there:
            return flow_runtime.skipped(f"nothing arrives: there is no {', '.join(missing)}")
        ran = flow_runtime.command(words, ends, 60 * time_limit)
        if ran.late:
            return Failed(name="TimedOut", message=f"it took longer than its {time_limit:g} minutes, and was ended")
        if ran.code == EX_TEMPFAIL:  # the next slot tries again
            return flow_runtime.skipped(ran.said)
        if ran.code:
            return Failed(name=flow_runtime.REFUSED if ran.code == MISTAKE else None, message=ran.said)
        found = json.loads(ran.made)
        print(found["words"])
        _tell(found)
        if not found["new"]:
            return flow_runtime.skipped(f"no new images; {found['words']}")
        artifacts.drift(found)
        return Completed(name="Drifted" if found["drifted"] else None, message=f"{found['new']} new images; {found['words']}")

    return flow_runtime.turn(work, wait=True, alone=False)


def _tell(found: dict[str, Any]) -> None:
    """Emit the event where a drift was not told of yet; one that is over is forgotten, so that the next one is told of."""
    known = TOLD.read_text(encoding="utf-8") if TOLD.exists() else ""
    if found["drifted"] and known != found["checkpoint_sha256"]:
        emit_event(DRIFT, {"prefect.resource.id": f"darkroom.{server.project()}"}, payload={
            "reason": f"drift: {found['words']}", "model": found["said"], "checkpoint_sha256": found["checkpoint_sha256"],
        })  # fmt: skip
        TOLD.write_text(found["checkpoint_sha256"], encoding="utf-8")
    elif found["tests"] and not found["drifted"]:
        TOLD.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; return 0, 1 where it failed, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.monitor", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="where images arrive (default: data/inbox)")
    parser.add_argument("--model", default="champion", help="who answers (default: %(default)s)")
    parser.add_argument("--window", type=int, default=500, metavar="N", help="the last N are compared (default: %(default)s)")
    parser.add_argument("--least", type=int, default=20, metavar="N", help="of fewer images nothing is said (default: %(default)s)")
    parser.add_argument("--alpha", type=float, default=0.01, help="significance (default: %(default)s)")
    parser.add_argument("--limit", nargs="+", action="extend", default=[], metavar="KIND=SIZE", help="such as embeddings=0.65")
    given = parser.parse_args(arguments)
    return flow_runtime.end(
        monitor, folders=given.folders, model=given.model, window=given.window, least=given.least, alpha=given.alpha,
        limits=dict(word.partition("=")[::2] for word in given.limit),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

"""Check arriving images for drift on a schedule.

Where there is drift, the flow ends as *Drifted*, which is a failure for Prefect's pages and no success. Where a drift
begins, it sends a notification and emits the event `darkroom.drift`, which starts `retrain` (prefect.yaml).
Without new images it is *Skipped*.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import Completed, Failed, State
from pydantic import Field

from darkroom.core import strict_json
from darkroom.core.errors import DRIFTED, MISTAKE
from pipelines import artifacts, command_line, flow_runtime, server
from pipelines.process_groups import ProcessGroups
from pipelines.repro import Positive

DRIFT_EVENT = "darkroom.drift"
REPORTED = Path("reports/monitoring/reported_drift")  # the checkpoint whose drift was reported by an event
PAGE = REPORTED.with_name("index.html")
OLD_REPORTED = REPORTED.with_name("told")  # its former name
ImageCount = Annotated[int, Field(ge=2)]


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send the notification of a failure; that of a drift is sent once, where it begins."""
    if state.name != flow_runtime.DRIFT:
        flow_runtime.notify(flow, flow_run, state)


@flow(name="monitor", log_prints=True, on_failure=[notify], on_crashed=[notify])
def monitor(
    folders: list[str] | None = None,
    model: str = "champion",
    window: ImageCount = 100,
    min_images: ImageCount = 20,
    series_minutes: Annotated[float, Field(ge=0)] = 5,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    limits: dict[str, Positive] | None = None,
    time_limit: Positive = 60,
) -> State[Any]:
    """Check arriving images for drift.

    Args:
        folders: the folders in which images arrive; without any, data/inbox.
        model: the model that classifies them: champion, another alias, a version, or a checkpoint folder.
        window: number of latest images that are compared with held-out images of the data set; a series counts once.
        min_images: minimum number of images before drift is tested, and of new ones before it is again; a series counts once.
        series_minutes: images taken within this time are a series; with 0 near duplicates alone are.
        alpha: probability of a false alarm within 30 days, at most.
        limits: the smallest size of a difference that is drift, for `embeddings`, `classes` or `confidence`.
        time_limit: minutes that the check may take.
    """
    requested = folders or ["data/inbox"]
    existing = [folder for folder in requested if Path(folder).expanduser().exists()]
    arguments = [*existing, "--json", "--model", model, "--window", str(window), "--min-images", str(min_images)]
    arguments += ["--series-minutes", str(series_minutes), "--alpha", str(alpha)]
    if limits:
        arguments += ["--limit", *(f"{test}={size}" for test, size in limits.items())]

    def work(processes: ProcessGroups) -> State[Any]:
        missing = ", ".join(folder for folder in requested if folder not in existing)
        if missing:
            print(f"there is no {missing}")
        if not existing:
            return flow_runtime.skipped(f"there is no {missing}")
        command = [sys.executable, "-m", "darkroom", "monitor", *arguments]
        result = processes.run(command, get_run_logger().info, limit=60 * time_limit, capture_stdout=True)
        if result.timed_out:
            return Failed(name="TimedOut", message=f"exceeded its time limit of {time_limit:g} minutes")
        if result.retryable:  # the next slot retries
            return flow_runtime.skipped(result.error.removeprefix("error: "))
        if result.returncode not in (0, DRIFTED):
            name = flow_runtime.REFUSED if result.returncode == MISTAKE else None
            return Failed(name=name, message=result.error.removeprefix("error: "))
        check = strict_json.loads(result.stdout)
        print(check["summary"])
        begins = _report_drift(check)
        message = f"{check['new'] or 'no'} new images; {check['summary']}"
        if check["new"] or begins:
            artifacts.show_drift(check, PAGE)
        else:
            return flow_runtime.skipped(message)
        if not check["drifted"]:
            return Completed(message=message)
        drifted: State[Any] = Failed(name=flow_runtime.DRIFT, message=message)
        if begins:
            flow_runtime.notify_now(drifted, PAGE)
        return drifted

    return flow_runtime.run_exclusively(work, wait=True, exclusive=False)


def _report_drift(check: dict[str, Any]) -> bool:
    """Emit the event of a drift once, and tell whether it begins; forget one that has ended, so that the next is reported."""
    if OLD_REPORTED.exists():
        OLD_REPORTED.replace(REPORTED)
    reported = REPORTED.read_text(encoding="utf-8") if REPORTED.exists() else ""
    if check["drifted"] and reported != check["checkpoint_sha256"]:
        emit_event(DRIFT_EVENT, {"prefect.resource.id": f"darkroom.{server.project()}"}, payload={
            "reason": f"drift: {check['summary']}", "model": check["description"], "checkpoint_sha256": check["checkpoint_sha256"],
        })  # fmt: skip
        REPORTED.write_text(check["checkpoint_sha256"], encoding="utf-8")
        return True
    if check["tests"] and not check["drifted"]:
        REPORTED.unlink(missing_ok=True)
    return False


if __name__ == "__main__":
    sys.exit(command_line.main(monitor))

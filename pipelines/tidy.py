"""Remove old history on a schedule, so that the disk does not fill: what `darkroom tidy --older-than` removes.

It also trims the logs of `make schedule`. Prefect's server removes its own old runs.
"""

from __future__ import annotations

import sys
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from darkroom.core import log_files
from darkroom.core.errors import MISTAKE
from pipelines import command_line, flow_runtime, schedule
from pipelines.process_groups import ProcessGroups
from pipelines.repro import Count, Positive


@flow(name="tidy", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def tidy(older_than: Positive = 90, keep_versions: Count = 10, time_limit: Positive = 60) -> State[Any]:
    """Remove old history: versions, runs, downloads and results in DVC's cache that nothing refers to, and damaged files.

    Args:
        older_than: days for which versions, runs, downloads and damaged files stay.
        keep_versions: versions that stay whatever their age, and as many former champions.
        time_limit: minutes that it may take.
    """

    def work(processes: ProcessGroups) -> State[Any]:
        for log in schedule.LOGS.glob("*.log"):
            log_files.trim(log)
        options = ["--older-than", str(older_than), "--keep-versions", str(keep_versions)]
        command = [sys.executable, "-m", "darkroom", "tidy", *options]
        result = processes.run(command, get_run_logger().info, limit=60 * time_limit)
        if result.timed_out:
            return Failed(name="TimedOut", message=f"exceeded its time limit of {time_limit:g} minutes")
        if result.retryable:  # the next slot retries
            return flow_runtime.skipped(result.error.removeprefix("error: "))
        if result.returncode:
            name = flow_runtime.REFUSED if result.returncode == MISTAKE else None
            return Failed(name=name, message=result.error.removeprefix("error: "))
        return Completed(message="; ".join(result.output) or "nothing to remove")

    return flow_runtime.run_exclusively(work, wait=True, exclusive=False)  # the command takes the workspace's lock


if __name__ == "__main__":
    sys.exit(command_line.main(tidy))

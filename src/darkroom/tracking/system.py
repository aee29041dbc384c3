"""What the machine does while stages run: processor, memory, disk, network and GPU, under MLflow's own names (`system/…`).

MLflow's monitors do it in the delivering process, so that a stage pays nothing for them.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

EVERY = 2.0  # seconds


class System:
    """Samples the machine for all runs that are under way."""

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self.monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(Exception):  # no NVIDIA GPU, or not the library that asks it
            self.monitors.append(GPUMonitor())
        self.next = 0.0
        self.steps: dict[str, int] = {}

    def sample(self, client: Any, runs: list[str]) -> None:
        """Log one sample to each of the runs, unless the last one was just now."""
        now = time.monotonic()
        if not runs or now < self.next:
            return
        from mlflow.entities import Metric

        self.next = now + EVERY
        values: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        stamp = int(time.time() * 1000)
        for run in runs:
            step = self.steps[run] = self.steps.get(run, -1) + 1
            client.log_batch(run, metrics=[Metric(f"system/{key}", float(value), stamp, step) for key, value in values.items()])

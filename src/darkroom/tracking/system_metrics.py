"""What the machine does while stages run: processor, memory, disk, network and GPU, under MLflow's own names (`system/…`).

MLflow's monitors do it in the delivering process, so that a stage pays nothing for them.
"""

from __future__ import annotations

import contextlib
import time
from itertools import chain
from typing import Any

EVERY = 5.0  # seconds
TOGETHER = 4  # samples that are sent at a time
AT_ONCE = 500  # metrics in a request


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
        self.kept: dict[str, list[list[Any]]] = {}  # samples that are not sent yet

    def sample(self, client: Any, runs: dict[str, bool]) -> None:
        """Sample for runs, unless the last sample was just now; send what there is of those that have metrics of their own.

        The others wait: MLflow's pages begin with the metric that came first.
        """
        full = [run for run, kept in self.kept.items() if run not in runs or (runs[run] and len(kept) >= TOGETHER)]
        for run in full:
            kept = list(chain.from_iterable(self.kept.pop(run)))
            for i in range(0, len(kept), AT_ONCE):
                client.log_batch(run, metrics=kept[i : i + AT_ONCE])
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
            made = [Metric(f"system/{key}", float(value), stamp, step) for key, value in values.items()]
            self.kept.setdefault(run, []).append(made)

"""Samples of processor, memory, disk, network and GPU while stages run, by MLflow's monitors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from darkroom.tracking.runs import Upload

INTERVAL = 5.0  # seconds


class Sampler:
    """Samples the machine for all runs that are under way, in the uploader, at no cost to the stages."""

    def __init__(self) -> None:
        self.monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(Exception):  # there is no NVIDIA GPU, or not its library
            self.monitors.append(GPUMonitor())
        self.next = 0.0

    def sample(self, uploads: Iterable[Upload]) -> None:
        """Add a sample to each run, unless the last one is less than INTERVAL old."""
        uploads, now = list(uploads), time.monotonic()
        if not uploads or now < self.next:
            return
        self.next = now + INTERVAL
        values: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        for upload in uploads:
            upload.add_system_metrics({f"system/{key}": float(value) for key, value in values.items()})

"""Sending records to MLflow, in a process that the first stage starts (`uploader_process`) and that ends when nothing is left.

A record is followed while its stage writes it, and removed when MLflow has it to its end; the files of a
pipeline once it has ended and none of its records is left. A record that cannot be uploaded is set aside; an
error of the server, the network or the disk stops the upload, which is tried again.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from darkroom.core.errors import masked
from darkroom.core.locks import hold
from darkroom.tracking import backups, mlflow_client, pipeline_runs, pipelines, requests, server_check
from darkroom.tracking.home import DAMAGED, RECORDS, database, is_own, uri
from darkroom.tracking.records import LOCK, REASON, RECORD, UNREACHABLE, is_alive, is_pending, pending, start_uploader
from darkroom.tracking.runs import Upload

IDLE = 20.0  # seconds without work after which the process ends
POLL = 0.25  # seconds
METRICS_INTERVAL = 5.0  # seconds between the metrics of one run
SAMPLE_INTERVAL = 5.0  # seconds between samples of the machine
RETRY_INTERVAL = 60.0  # seconds between attempts to reach MLflow, at most
STOP = RECORDS / "uploader.stop"  # asks the background process to release its lock
# MLflow's errors that a later attempt does not mend
OF_A_PATH = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)  # that a record names
PERMANENT = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


class Sampler:
    """Samples processor, memory, disk, network and GPU for all runs under way, at no cost to the stages."""

    def __init__(self) -> None:
        self.monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(Exception):  # there is no NVIDIA GPU, or not its library
            self.monitors.append(GPUMonitor())
        self.next = 0.0

    def sample(self, uploads: list[Upload]) -> None:
        """Add a sample to each run, unless the last one is less than SAMPLE_INTERVAL old."""
        if not uploads or time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SAMPLE_INTERVAL
        values: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            values |= {f"system/{key}": float(value) for key, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        for upload in uploads:
            upload.add_system_metrics(values)


def upload(until_empty: bool = False) -> int:
    """Upload records until none has come for a while, or until all is uploaded for now (`until_empty`).

    Return how many runs have ended. Errors of the server, the network and the disk are raised.
    """
    mlflow_client.require_space()
    client, sampler = mlflow_client.client(), Sampler()
    UNREACHABLE.unlink(missing_ok=True)
    requests.remove_left_overs()
    uploads: dict[Path, Upload] = {}
    ended, busy_at = 0, time.monotonic()
    while True:
        closed = pipelines.ended()  # before their records are listed: one that ends later may have another stage by then
        count, is_busy = _advance(client, uploads, 0.0 if until_empty else METRICS_INTERVAL)
        ended += count
        is_busy = requests.serve() or is_busy or bool(pipelines.ended() - closed)
        active = [item for item in uploads.values() if item.run_id and not item.error]
        sampler.sample(active)
        if is_busy or active:
            busy_at = time.monotonic()
        is_idle = not is_busy if until_empty else time.monotonic() - busy_at > IDLE
        if _settle_pipelines(client, closed, {item.pipeline for item in uploads.values()}, is_idle) and not until_empty:
            busy_at, is_idle = time.monotonic(), False
        if is_idle or (not until_empty and STOP.exists()):
            _back_up()
            return ended
        time.sleep(0.05 if until_empty else POLL)


def _back_up() -> None:
    """Make a backup of the project's own database, where one is due; a full disk does not undo what was uploaded."""
    file = database()
    if file and is_own(file):
        try:
            backups.take(file)
        except (OSError, sqlite3.OperationalError) as error:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} no backup of {file}: {error}", file=sys.stderr, flush=True)


def _advance(client: MlflowClient, uploads: dict[Path, Upload], interval: float) -> tuple[int, bool]:
    """Upload new lines of all records; return how many have ended, and whether there was anything new.

    A temporary error is raised when the other records have had their turn, or at once where MLflow does not
    work at all.
    """
    count, is_busy = 0, False
    failure: Exception | None = None
    folders = pending()
    if folders:
        mlflow_client.require_space()  # not of one record: all are kept
    for folder in folders:
        item = uploads.setdefault(folder, Upload(folder, client))
        before = item.offset
        try:
            if not item.error and item.advance(interval):
                (folder / RECORD).unlink()  # first: a folder without it is no record
                shutil.rmtree(folder)
                del uploads[folder]
                count += 1
        except Exception as error:
            if is_temporary(error):
                mlflow_client.experiment(client)
                failure = error
            else:
                item.error = error
        if item.error and not is_alive(folder):
            _set_aside(folder, item.error)
            del uploads[folder]
        is_busy = is_busy or item.offset > before
    if failure:
        raise failure
    return count, is_busy


def _settle_pipelines(client: MlflowClient, closed: set[str], unfinished: set[str], is_idle: bool) -> bool:
    """Settle the pipelines that were `closed` before records were listed and have no unfinished runs; return whether one is
    running.

    While nothing happens a pipeline without a known process counts as ended.
    """
    is_running = False
    for folder in pipelines.folders():
        try:
            pipeline = pipelines.read(folder)
            is_running = is_running or pipeline.is_running
            is_lost = is_idle and not pipeline.is_running and not pipeline.has_ended
            if pipeline.key not in unfinished and (pipeline.key in closed or is_lost):
                pipelines.close(pipeline)
                pipeline_runs.settle(client, mlflow_client.experiment(client), pipelines.read(folder))
                pipelines.forget(pipeline)
        except Exception as error:
            if is_temporary(error):
                raise
            _set_aside(folder, error)
    return is_running


def is_temporary(error: Exception) -> bool:
    """Return whether an error is one of the server, the network or the disk, and not of the record."""
    if isinstance(error, MlflowException):
        return error.error_code not in PERMANENT
    if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno in OF_A_PATH):
        return False
    return isinstance(error, OSError | RequestException | SQLAlchemyError)


def _set_aside(folder: Path, error: Exception) -> None:
    """Move a record that cannot be uploaded out of the way of the others, with the reason."""
    with suppress(FileNotFoundError):
        (folder / REASON).write_text(masked(f"{type(error).__name__}: {error}"), encoding="utf-8")
        DAMAGED.mkdir(parents=True, exist_ok=True)
        target = DAMAGED / folder.name
        shutil.move(folder, target if not target.exists() else target.with_name(f"{folder.name}-{time.time_ns()}"))
        print(f"{folder.name} cannot be uploaded and is kept in {DAMAGED}: {masked(repr(error))}", file=sys.stderr, flush=True)


@contextmanager
def in_place() -> Iterator[None]:
    """Work in place of the background process, which ends."""
    if server_check.is_server(uri()):  # before it waits for an uploader that waits for the server
        server_check.check(uri())
    RECORDS.mkdir(parents=True, exist_ok=True)
    STOP.touch()
    try:
        with hold(LOCK), mlflow_client.reachable():
            yield
    finally:
        STOP.unlink(missing_ok=True)


def sync() -> int:
    """Upload all records, also those set aside, in place of the background process.

    Return how many runs have ended. Raises WorkspaceError where MLflow cannot be used; what was not uploaded
    is kept.
    """
    with in_place():
        for folder in DAMAGED.glob("*"):
            parent = pipelines.PIPELINES if (folder / pipelines.FILE).exists() else RECORDS
            parent.mkdir(parents=True, exist_ok=True)
            if not (parent / folder.name).exists():
                shutil.move(folder, parent / folder.name)
        count = upload(until_empty=True)
    if is_pending():  # stages at work are followed
        start_uploader()
    return count


def upload_while_stages_work() -> int:
    """Upload until none has come for a while, and retry while stages work; return 1 where something is left to `darkroom sync`."""
    pause = 2.0
    while True:
        try:
            upload()
            return 0
        except Exception as error:
            reason = masked(str(error).splitlines()[0][:300] if str(error) else repr(error))
            UNREACHABLE.write_text(reason, encoding="utf-8")
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} not uploaded: {reason}", file=sys.stderr, flush=True)
        if not _wait(pause):
            return 1
        pause = min(2 * pause, RETRY_INTERVAL)


def _wait(seconds: float) -> bool:
    """Wait, without making others wait; return whether a stage or a pipeline is still at work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not STOP.exists():
        requests.serve(is_connected=False)
        pipelines.close_ended()
        if not (any(map(is_alive, pending())) or any(item.is_running for item in pipelines.readable())):
            return False
        time.sleep(POLL)
    return not STOP.exists()

"""The record of a run: a file of JSON lines that a stage appends to while it works.

A run has a folder `.darkroom/journal/<key>/` with `record.jsonl` and copies of its artifacts. A line has the
`time` in seconds since 1970, its `kind`, and the arguments of the method of `runs.Upload` that uploads it.
The uploader (`tracking/uploader.py`) sends records to MLflow, so that no stage waits for MLflow or imports it.
A record that has not reached MLflow stays there for `darkroom sync`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from darkroom.config import dvc_graph
from darkroom.core import environment, git, log_files
from darkroom.core.errors import masked
from darkroom.core.locks import hold, is_taken
from darkroom.tracking import artifact_paths, pipelines
from darkroom.tracking.entities import ENVIRONMENT, MEMBER_OF, Status
from darkroom.tracking.home import DAMAGED, HOME, RECORDS, is_read_only

RECORD = "record.jsonl"
ARTIFACTS = "files"
ALIVE = "alive.lock"  # held by the process that writes the record, as long as that runs
REASON = "reason.txt"  # why a record could not be uploaded
LOCK = RECORDS / "uploader.lock"  # held by the uploader
NUMBERS = itertools.count()  # of the runs of this process
UNREACHABLE = RECORDS / "unreachable"  # why the uploader could not reach MLflow the last time


class Run:
    """The record of a run that is under way; without a file nothing is recorded."""

    def __init__(self, folder: Path, file: TextIO | None, key: str = "") -> None:
        self.folder, self.file, self.key, self.started = folder, file, key, time.time()

    def set_duration(self, seconds: float) -> None:
        """Set how long the work has taken so far, where it was done before its record began."""
        self.started = time.time() - seconds

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record metrics; a step is an epoch."""
        self.write("metrics", values=_floats(values), step=step)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Record the metrics of an epoch; MLflow's pages begin with those on validation, which come first."""
        keys = sorted(row.keys() - {"epoch"}, key=lambda key: (not key.startswith("val_"), key))
        self.log_metrics({key: row[key] for key in keys}, int(row["epoch"]))

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Record tags."""
        self.write("tags", values=dict(values))

    def log_dataset(self, name: str, source: str, digest: str, profile: Mapping[str, Any]) -> None:
        """Record the data set that this run reads, identified by its digest."""
        self.write("data", name=name, source=source, digest=digest, profile=dict(profile))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a small file as it is now, in a folder of the run's artifacts."""
        self._write_file("file", str(Path(folder, path.name)), path.read_bytes(), folder)

    def log_table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Record a table that MLflow shows beside the same table of other runs."""
        self._write_file("table", f"{name}.json", json.dumps({"columns": columns, "data": rows}).encode())

    def log_checkpoint(self, name: str, sha256: str, values: Mapping[str, float], step: int, data: str = "") -> None:
        """Record the checkpoint of this run, with its validation metrics in the best epoch, `step`."""
        self.write("model", sha256=sha256, values=_floats(values), step=step, name=name, data=data)

    def log_scores(self, sha256: str, values: Mapping[str, float], data: str) -> None:
        """Record metrics of a checkpoint that another run made; `data` is one of this run's inputs."""
        self.log_checkpoint("", sha256, values, 0, data)

    def save_view(self, key: str, state: Mapping[str, Any], note: str) -> None:
        """Record a view of MLflow's runs page, and describe this run by a note with a link to it."""
        self.write("view", name=key, state=dict(state), note=note)

    def end(self, status: str, error: str = "") -> None:
        """Record how the run ended."""
        self.log_metrics({"duration_seconds": time.time() - self.started})
        self.write("end", status=status, error=error)

    def write(self, kind: str, **arguments: Any) -> None:
        """Append a line."""
        if self.file:
            self.file.write(json.dumps({"kind": kind, "time": time.time(), **arguments}) + "\n")
            self.file.flush()

    def _write_file(self, kind: str, name: str, content: bytes, folder: str = "") -> None:
        if self.file:
            path = self.folder / ARTIFACTS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.write(kind, name=name, folder=folder)


def is_off() -> bool:
    """Return whether DARKROOM_TRACKING switches tracking off."""
    return os.environ.get("DARKROOM_TRACKING", "").lower() in ("off", "0", "false")


@contextmanager
def start_run(
    stage: str, params: Mapping[str, Any], inputs: list[str], name: str = "", parent: Run | None = None
) -> Iterator[Run]:  # fmt: skip
    """Record a run of a stage, its flat params and its inputs. It fails where the block raises.

    Where DVC runs the stage, it has DVC's name (`transfer@vgg16`). With `parent`, a run that is under way, it is listed below
    that one, by its own `name`.
    """
    if is_off() or is_read_only():
        yield Run(Path(), None)
        return
    stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2] or stage
    pipeline, commit = None if parent else pipelines.join(), git.commit()
    name_here = f"{time.time_ns()}-{os.urandom(4).hex()}"  # of its folder
    key = f"{stem}-{next(NUMBERS)}" if (stem := pipelines.run_key()) else name_here
    tags = {"mlflow.source.git.commit": commit.sha, "darkroom.dirty": str(commit.is_dirty).lower()} if commit else {}
    tags |= {"darkroom.stage": stage, "mlflow.source.name": f"darkroom {stage.replace('@', ' ')}"}
    tags |= {MEMBER_OF: parent.key} if parent else {f"{ENVIRONMENT}{key}": value for key, value in environment.describe().items()}
    folder = RECORDS / name_here
    with hold(folder / ALIVE), (folder / RECORD).open("a", encoding="utf-8") as file:
        run = Run(folder, file, key)
        run.write(
            "start", key=key, stage=stage, name=name or stage,
            pipeline={"key": pipeline.key, "name": pipeline.name} if pipeline else {},
            params=_identity(stage, params) | dict(params), inputs=dvc_graph.digests(inputs), tags=tags,
        )  # fmt: skip
        start_uploader()
        try:
            yield run
        except BaseException as error:
            run.end(Status.FAILED, masked(str(error)))
            raise
        else:
            run.end(Status.FINISHED)
        finally:
            if UNREACHABLE.exists():
                reason = UNREACHABLE.read_text(encoding="utf-8")
                print(f"{stage}: MLflow cannot be reached ({reason}); `darkroom sync` uploads this run later", file=sys.stderr)


def _identity(stage: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return a stage's name as params, so that MLflow can compare runs over stages and backbones."""
    name, _, item = stage.partition("@")
    if name == "baseline":
        item = params.get("baseline.architecture", "compact")
    return {"stage": name} | ({{"fetch": "dataset", "study": "study"}.get(name, "backbone"): item} if item else {})


def _floats(values: Mapping[str, float]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items()}


def start_uploader() -> None:
    """Start the uploader, unless it runs already, as a process that outlives this one."""
    if is_taken(LOCK):
        return
    if not artifact_paths.is_relative():  # here, where the person sees the message
        with hold(artifact_paths.LOCK):
            artifact_paths.make_relative()
    log_files.trim(RECORDS / "uploader.log")
    with (RECORDS / "uploader.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "darkroom.tracking.uploader_process"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=HOME,
        )  # fmt: skip


def pending() -> list[Path]:
    """Return the folders of the runs that MLflow does not have to their end, oldest first."""
    return sorted(path.parent for path in RECORDS.glob(f"*/{RECORD}"))


def is_alive(folder: Path) -> bool:
    """Return whether the process that writes a record runs."""
    return is_taken(folder / ALIVE)


def is_pending() -> bool:
    """Return whether MLflow lacks something: a run, or the end of a pipeline."""
    return bool(pending() or pipelines.folders())


def damaged() -> dict[str, str]:
    """Return the records that could not be uploaded, by name, each with the reason."""
    reasons = {folder.name: folder / REASON for folder in sorted(DAMAGED.glob("*"))}
    return {name: file.read_text(encoding="utf-8") if file.exists() else "unknown" for name, file in reasons.items()}

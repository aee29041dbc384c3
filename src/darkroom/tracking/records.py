"""A stage's record of its run, appended to a file while it works; MLflow is not imported here.

Each run is a folder `.darkroom/journal/<key>/` with `record.jsonl` and copies of its plots. The process of
`tracking/uploader.py` carries the records to MLflow while stages work, so that no stage pays for MLflow's start-up, and a
record that could not be delivered is still there for `darkroom sync`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.tracking import pipelines, provenance
from darkroom.tracking.home import HOME
from darkroom.tracking.pipelines import JOURNAL

REFUSED = JOURNAL / "refused"  # why MLflow could not be reached the last time


class Journal:
    """The record of one run of a stage. Use as a context manager: how the block ends is how the run ends."""

    def __init__(self, stage: str, params: Mapping[str, Any], inputs: list[str]) -> None:
        key = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        self.folder = JOURNAL / key
        self.folder.mkdir(parents=True)
        self.stage, self.started = stage, time.time()
        pipeline = provenance.pipeline()
        if pipeline:
            pipelines.begin(pipeline)
        self._write(
            "start",
            key=key,
            stage=stage,
            pipeline={key: pipeline[key] for key in ("key", "name") if pipeline},
            params=_described(stage, params) | dict(params),
            inputs=provenance.digests(inputs),
            tags=provenance.commit() | {"darkroom.stage": stage, "mlflow.source.name": f"darkroom {stage.replace('@', ' ')}"},
            pid=os.getpid(),
            born=provenance.born(os.getpid()),
        )
        start_delivery()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.metrics({"duration_seconds": time.time() - self.started})
        failed = kind is not None
        self._write("end", status="FAILED" if failed else "FINISHED", error=str(error) if failed else "")
        if REFUSED.exists():
            reason = REFUSED.read_text()
            print(f"{self.stage}: this run is not in MLflow yet ({reason}); `darkroom sync` delivers it later", file=sys.stderr)

    def lasted(self, seconds: float) -> None:
        """Say how long the work took that was done before its record began."""
        self.started = time.time() - seconds

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers; a step is an epoch."""
        self._write("metrics", values={key: float(value) for key, value in values.items()}, step=step)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Record the metrics of one epoch; those of validation first, which MLflow's comparison then begins with."""
        values = {key: row[key] for key in sorted(row, key=lambda key: (not key.startswith("val_"), key)) if key != "epoch"}
        self.metrics(values, int(row["epoch"]))

    def tag(self, values: Mapping[str, str]) -> None:
        """Record tags."""
        self._write("tags", values=dict(values))

    def data(self, name: str, source: str, digest: str, profile: Mapping[str, Any]) -> None:
        """Record the data set, with the digest that identifies it."""
        self._write("data", name=name, source=source, digest=digest, profile=dict(profile))

    def file(self, path: Path, folder: str = "") -> None:
        """Record a plot or a small file, as it is now, in a folder of the run's artifacts."""
        name = str(Path(folder, path.name))
        copy = self.folder / "files" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        self._write("file", name=name, folder=folder)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Record a table that MLflow shows beside the same table of other runs."""
        file = self.folder / "files" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"columns": columns, "data": rows}))
        self._write("table", name=file.name)

    def model(self, name: str, sha256: str, values: Mapping[str, float], step: int) -> None:
        """Record the checkpoint that this run made, and its figures on validation in the epoch `step`, the one that was kept."""
        self._write("model", name=name, sha256=sha256, values={key: float(value) for key, value in values.items()}, step=step)

    def scores(self, sha256: str, values: Mapping[str, float], data: str) -> None:
        """Record figures of a checkpoint that another run made; `data` is one of this run's inputs."""
        self._write("scores", sha256=sha256, values={key: float(value) for key, value in values.items()}, data=data, step=0)

    def _write(self, kind: str, **content: Any) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **content}) + "\n"
        with (self.folder / "record.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)


class Silence:
    """The record that nobody keeps: what stages get when DARKROOM_TRACKING is off."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def lasted(self, seconds: float) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        pass

    def epoch(self, row: Mapping[str, float]) -> None:
        pass

    def tag(self, values: Mapping[str, str]) -> None:
        pass

    def data(self, name: str, source: str, digest: str, profile: Mapping[str, Any]) -> None:
        pass

    def file(self, path: Path, folder: str = "") -> None:
        pass

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        pass

    def model(self, name: str, sha256: str, values: Mapping[str, float], step: int) -> None:
        pass

    def scores(self, sha256: str, values: Mapping[str, float], data: str) -> None:
        pass


Run = Journal | Silence


def is_off() -> bool:
    return os.environ.get("DARKROOM_TRACKING", "").lower() in ("off", "0", "false")


def run(stage: str, params: Mapping[str, Any], inputs: list[str]) -> Run:
    """Begin the record of a stage: its params, flat, and the paths that it reads.

    The name is DVC's where DVC runs the stage (`transfer@vgg16`).
    """
    return Silence() if is_off() else Journal(stage, params, inputs)


def _described(stage: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return a stage's name as params, so that MLflow can compare runs over stages and backbones."""
    name, _, item = stage.partition("@")
    if name == "baseline":
        item = params.get("baseline.architecture", "compact")
    return {"stage": name} | ({{"fetch": "dataset", "study": "study"}.get(name, "backbone"): item} if item else {})


def start_delivery() -> None:
    """Start the delivering process, unless one works already, as a process of its own that outlives the stage."""
    from darkroom.core.locks import is_taken

    if is_taken(JOURNAL / "deliver.lock"):
        return
    with (JOURNAL / "deliver.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "darkroom.tracking.uploader"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=HOME,
        )  # fmt: skip

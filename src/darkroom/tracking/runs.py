"""A record as a run of MLflow: params, metrics, data sets, artifacts, checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from darkroom.tracking import mlflow_client, pipeline_runs, records
from darkroom.tracking.entities import KEY, MODEL, SHA

BATCH = 500  # metrics in a request; MLflow takes 1,000


class Upload:
    """Uploads one record while it is written.

    It begins with the first line. What MLflow has already is found by the record's key, and writing it again
    changes nothing, so that no other state is needed.
    """

    def __init__(self, folder: Path, client: MlflowClient) -> None:
        self.folder, self.client = folder, client
        self.artifacts = folder / records.ARTIFACTS
        self.start: records.Start | None = None
        self.run_id = self.experiment = ""
        self.params: dict[str, str] = {}
        self.error: Exception | None = None  # why it cannot be uploaded
        self.offset, self.sent, self.samples = 0, -math.inf, 0
        self.metrics: list[Metric] = []  # not sent yet
        self.system_metrics: list[Metric] = []  # they come second: MLflow's pages begin with the first metric

    @property
    def pipeline(self) -> str:
        """The key of the pipeline that the run belongs to."""
        return self.start.pipeline.get("key", "") if self.start else ""

    @property
    def inputs(self) -> dict[str, str]:
        """The digests of the run's inputs."""
        return self.start.inputs if self.start else {}

    def advance(self, interval: float = 0.0) -> bool:
        """Upload new entries; return whether the record has ended, also because its process was killed.

        Metrics of a stage at work are sent every `interval` seconds: a training loop waits for its slowest
        thread, so that other processes cost it more than their share of the machine.
        """
        is_alive = records.is_alive(self.folder)  # before the file is read, so that no last line is missed
        end: records.End | None = None
        for entry in self._new_entries():
            self._upload(entry)
            end = entry if isinstance(entry, records.End) else None
        if end is None and not is_alive:
            if not self.run_id:  # killed before it wrote the first line
                return True
            end = records.End(status=records.KILLED, error="the stage's process was killed")
        if end or time.monotonic() - self.sent >= interval:
            self._send_metrics(is_last=end is not None)
        if end:
            if end.error:
                self.client.set_tag(self.run_id, "darkroom.error", end.error[:5000])
            self.client.set_terminated(self.run_id, end.status, _milliseconds(end))
        return end is not None

    def add_system_metrics(self, values: Mapping[str, float]) -> None:
        """Add a sample of the machine."""
        stamp = int(time.time() * 1000)
        self.system_metrics += [Metric(key, value, stamp, self.samples) for key, value in values.items()]
        self.samples += 1

    def _new_entries(self) -> list[records.Entry]:
        with (self.folder / records.RECORD).open("rb") as file:
            file.seek(self.offset)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self.offset += len(new)
        return [records.parse(line) for line in new.splitlines()]

    def _send_metrics(self, is_last: bool) -> None:
        if is_last or self.metrics or math.isfinite(self.sent):
            metrics = self.metrics + self.system_metrics
            self.metrics, self.system_metrics = [], []
            if metrics:
                self._log_metrics(self.run_id, metrics)
                self.sent = time.monotonic()

    def _log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for i in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[i : i + BATCH])

    def _upload(self, entry: records.Entry) -> None:
        match entry:
            case records.Start():
                self._start_run(entry)
            case records.Metrics(values=values, step=step):
                self.metrics += [Metric(key, value, _milliseconds(entry), step) for key, value in values.items()]
            case records.Tags(values=values):
                for key, value in values.items():
                    self.client.set_tag(self.run_id, key, value)
            case records.Dataset():
                self._log_dataset(entry)
            case records.Table(name=name):
                self.client.log_artifact(self.run_id, str(self.artifacts / name))
                tables = json.dumps([{"path": name, "type": "table"}])  # shown when runs are compared
                self.client.set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, tables)
            case records.Artifact(name=name, folder=folder):
                self.client.log_artifact(self.run_id, str(self.artifacts / name), folder or None)
            case records.Checkpoint(name=""):
                self._log_scores(entry)
            case records.Checkpoint():
                self._log_checkpoint(entry)

    def _start_run(self, entry: records.Start) -> None:
        self.start, self.experiment = entry, mlflow_client.experiment(self.client)
        self.params = {key: str(value) for key, value in entry.params.items()}
        query = f"tags.`{KEY}` = '{entry.key}'"
        runs = self.client.search_runs([self.experiment], query, ViewType.ALL)  # also deleted ones
        if runs:
            self.run_id = runs[0].info.run_id
        else:
            tags = {KEY: entry.key, **entry.tags}
            tags |= {f"input.{path}": digest for path, digest in entry.inputs.items()}
            if entry.pipeline:
                tags |= pipeline_runs.child_tags(self.client, self.experiment, entry.pipeline, _milliseconds(entry))
            self.run_id = self.client.create_run(self.experiment, _milliseconds(entry), tags, entry.stage).info.run_id
        self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in self.params.items()])
        for path, digest in entry.inputs.items():
            if path.startswith("data/"):
                self._log_dataset(records.Dataset(name=path, source=path, digest=digest, profile={}))

    def _log_dataset(self, entry: records.Dataset) -> None:
        context = {"val": "validation", "test": "testing"}.get(Path(entry.name).name, "training")
        source, profile = json.dumps({"uri": entry.source}), json.dumps(entry.profile)
        dataset = Dataset(entry.name, entry.digest[:36], "local", source, profile=profile)
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def _log_checkpoint(self, entry: records.Checkpoint) -> None:
        """Make the checkpoint a logged model, once, with its metrics on the data that it was validated on."""
        models = self.client.search_logged_models([self.experiment], f"source_run_id = '{self.run_id}'")
        model = models[0] if models else self.client.create_logged_model(
            self.experiment, name=entry.name.replace("/", "-"), source_run_id=self.run_id, params=self.params,
            tags={SHA: entry.sha256, MODEL: entry.name}, model_type="image classifier",
        )  # fmt: skip
        if str(model.status) != "READY":
            self.client.log_model_artifacts(model.model_id, str(self.artifacts))
            self.client.finalize_logged_model(model.model_id, "READY")
            self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, entry.step)])
        data = [path for path in self.inputs if path.startswith("data/")]
        validation = next((path for path in data if Path(path).name == "val"), data[0] if data else "")
        self._log_metrics(self.run_id, self._about(model.model_id, self.run_id, entry, validation))

    def _log_scores(self, entry: records.Checkpoint) -> None:
        """Log metrics of another run's checkpoint with that run, and with its logged model."""
        model = mlflow_client.logged_model(self.client, self.experiment, entry.sha256)
        if model and model.source_run_id and self.client.get_run(model.source_run_id).info.lifecycle_stage == "active":
            self._log_metrics(model.source_run_id, self._about(model.model_id, model.source_run_id, entry, entry.data))

    def _about(self, model_id: str, run_id: str, entry: records.Checkpoint, data: str) -> list[Metric]:
        """Return metrics of a checkpoint on an input of this run."""
        digest = self.inputs.get(data, "")[:36]
        return [
            Metric(
                key, value, _milliseconds(entry), entry.step, model_id=model_id, run_id=run_id,
                dataset_name=data if digest else None, dataset_digest=digest or None,
            ) for key, value in entry.values.items()
        ]  # fmt: skip


def _milliseconds(entry: records.Entry) -> int:
    return int(entry.time * 1000)

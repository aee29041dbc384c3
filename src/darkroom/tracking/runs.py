"""A record as a run of MLflow: params, metrics, data sets, artifacts, checkpoint."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from darkroom.core import strict_json
from darkroom.tracking import mlflow_client, pipeline_runs, records, views
from darkroom.tracking.entities import KEY, MEMBER_OF, MODEL, NOTE, PARENT, PIPELINE, SHA, Status

BATCH = 500  # metrics in a request; MLflow takes 1,000


class Upload:
    """Uploads one record while it is written: a line of the kind `tags` is uploaded by `_upload_tags`.

    It begins with the first line. What MLflow has already is found by the record's key, and writing it again
    changes nothing, so that no other state is needed.
    """

    def __init__(self, folder: Path, client: MlflowClient) -> None:
        self.folder, self.client = folder, client
        self.artifacts = folder / records.ARTIFACTS
        self.run_id = self.experiment = self.pipeline = ""  # the pipeline's key
        self.params: dict[str, str] = {}
        self.inputs: dict[str, str] = {}  # digests by path
        self.error: Exception | None = None  # why it cannot be uploaded
        self.offset, self.sent, self.samples = 0, -math.inf, 0
        self.stamp = 0  # the time of the last line, in milliseconds since 1970
        self.end: tuple[str, str] | None = None  # status and error
        self.metrics: list[Metric] = []  # not sent yet
        self.system_metrics: list[Metric] = []  # they come second: MLflow's pages begin with the first metric

    def advance(self, interval: float = 0.0) -> bool:
        """Upload new lines; return whether the record has ended, also because its process was killed.

        Metrics of a stage at work are sent every `interval` seconds: a training loop waits for its slowest
        thread, so that other processes cost it more than their share of the machine.
        """
        is_alive = records.is_alive(self.folder)  # before the file is read, so that no last line is missed
        for line in self._new_lines():
            self._upload_line(strict_json.loads(line))
        if self.end is None and not is_alive:
            if not self.run_id:  # killed before it wrote the first line, or amid it
                with (self.folder / records.RECORD).open("rb") as file:
                    if not b"{".startswith(file.read(1)):
                        raise ValueError("its first line is no record")
                return True
            self.end, self.stamp = (Status.KILLED, "the stage's process was killed"), int(time.time() * 1000)
        is_due = time.monotonic() - self.sent >= interval and (self.metrics or math.isfinite(self.sent))
        if self.end or is_due:
            metrics = self.metrics + self.system_metrics
            self.metrics, self.system_metrics = [], []
            if metrics:
                self._log_metrics(self.run_id, metrics)
                self.sent = time.monotonic()
        if self.end:
            status, error = self.end
            if error:
                self.client.set_tag(self.run_id, "darkroom.error", error[:5000])
            self.client.set_terminated(self.run_id, status, self.stamp)
        return self.end is not None

    def add_system_metrics(self, values: Mapping[str, float]) -> None:
        """Add a sample of the machine."""
        stamp = int(time.time() * 1000)
        self.system_metrics += [Metric(key, value, stamp, self.samples) for key, value in values.items()]
        self.samples += 1

    def _new_lines(self) -> list[bytes]:
        with (self.folder / records.RECORD).open("rb") as file:
            file.seek(self.offset)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self.offset += len(new)
        return new.splitlines()

    def _upload_line(self, line: dict[str, Any]) -> None:
        """Upload a line; keys that this version does not know are ignored."""
        method = getattr(self, f"_upload_{line['kind']}")
        self.stamp = int(line["time"] * 1000)
        method(**{key: line[key] for key in inspect.signature(method).parameters if key in line})

    def _upload_start(
        self, key: str, stage: str, pipeline: dict[str, str], params: dict[str, Any], inputs: dict[str, str], tags: dict[str, str],
        name: str = "",
    ) -> None:  # fmt: skip
        """Create the run, below its pipeline's run or the one that it is a member of, unless MLflow has it; log its params and
        inputs."""
        self.experiment, self.pipeline, self.inputs = mlflow_client.experiment(self.client), pipeline.get("key", ""), inputs
        self.params = {name: str(value) for name, value in params.items()}
        runs = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'", ViewType.ALL)  # also deleted ones
        if runs:
            self.run_id = runs[0].info.run_id
        else:
            tags = {KEY: key, **tags} | {f"input.{path}": digest for path, digest in inputs.items()}
            if pipeline:
                parent = pipeline_runs.parent_run(self.client, self.experiment, pipeline["key"], pipeline["name"], self.stamp)
                tags |= {PARENT: parent, PIPELINE: pipeline["key"]}
            elif above := self._run_of(tags.get(MEMBER_OF, "")):
                tags |= {PARENT: above}
            self.run_id = self.client.create_run(self.experiment, self.stamp, tags, name or stage).info.run_id
        self.client.log_batch(self.run_id, params=[Param(name, value) for name, value in self.params.items()])
        for path, digest in inputs.items():
            if path.startswith("data/"):
                self._upload_data(path, path, digest, {})

    def _run_of(self, key: str) -> str:
        """Return the id of the run of a record; empty where MLflow does not have it."""
        runs = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'", max_results=1) if key else []
        return str(runs[0].info.run_id) if runs else ""

    def _upload_view(self, name: str, state: dict[str, Any], note: str) -> None:
        title = name.replace(views.STUDY, "Study: ", 1)
        self.client.set_experiment_tag(self.experiment, f"{views.TAG}{name}", views.saved(title, state, self.stamp / 1000))
        link = views.address("", self.experiment, name, charts=True)
        self.client.set_tag(self.run_id, NOTE, f"{note}\n\n[Compare the members]({link})")

    def _upload_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics += [Metric(key, value, self.stamp, step) for key, value in values.items()]

    def _upload_tags(self, values: dict[str, str]) -> None:
        for key, value in values.items():
            self.client.set_tag(self.run_id, key, value)

    def _upload_data(self, name: str, source: str, digest: str, profile: dict[str, Any]) -> None:
        context = {"val": "validation", "test": "testing"}.get(Path(name).name, "training")
        dataset = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), profile=json.dumps(profile))
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def _upload_file(self, name: str, folder: str = "") -> None:
        """Log an artifact; `name` is its path in the record's folder, `folder` its folder in MLflow."""
        self.client.log_artifact(self.run_id, str(self.artifacts / name), folder or None)

    def _upload_table(self, name: str) -> None:
        """Log a table that is shown when runs are compared."""
        self._upload_file(name)
        self.client.set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": name, "type": "table"}]))

    def _upload_model(self, sha256: str, values: dict[str, float], step: int = 0, name: str = "", data: str = "") -> None:
        """Make the run's checkpoint a logged model, once, with its metrics on the data that validated it.

        Metrics of a checkpoint without a name belong to the run that made it; they are of the input `data`.
        """
        if not name:
            model = mlflow_client.logged_model(self.client, self.experiment, sha256)
            if not model or not model.source_run_id:
                return
            if self.client.get_run(model.source_run_id).info.lifecycle_stage != "active":
                return
        else:
            models = self.client.search_logged_models([self.experiment], f"source_run_id = '{self.run_id}'")
            model = models[0] if models else self.client.create_logged_model(
                self.experiment, name=mlflow_client.logged_model_name(name), source_run_id=self.run_id, params=self.params,
                tags={SHA: sha256, MODEL: name}, model_type="image classifier",
            )  # fmt: skip
            if str(model.status) != "READY":
                self.client.log_model_artifacts(model.model_id, str(self.artifacts))
                self.client.finalize_logged_model(model.model_id, "READY")
                self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
            inputs = [path for path in self.inputs if path.startswith("data/")]
            data = next((path for path in inputs if Path(path).name == "val"), inputs[0] if inputs else "")
        digest = self.inputs.get(data, "")[:36]
        run_id = model.source_run_id or self.run_id
        self._log_metrics(run_id, [
            Metric(
                key, value, self.stamp, step, model_id=model.model_id, run_id=run_id,
                dataset_name=data if digest else None, dataset_digest=digest or None,
            ) for key, value in values.items()
        ])  # fmt: skip

    _upload_scores = _upload_model  # the kind in records of earlier versions

    def _upload_end(self, status: str, error: str) -> None:
        self.end = status, error

    def _log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for i in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[i : i + BATCH])

"""A stage's record as a run of MLflow: its params, metrics, data, files, and the checkpoint that it made as a logged model."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from darkroom.tracking import mlflow_client, pipeline_runs, provenance, registry

NAMELESS = 60.0  # seconds after which a record without a first line is dropped
AT_ONCE = 500  # metrics in a request; MLflow takes 1,000


class Delivery:
    """Follows one journal."""

    def __init__(self, folder: Path, client: Any) -> None:
        self.folder, self.client = folder, client
        self.state_file = folder / "delivered.json"
        self.sent = -math.inf
        self.state: dict[str, Any] = {"offset": 0, "run": "", "pipeline": ""}
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())

    def advance(self, rest: float = 0.0) -> bool:
        """Deliver what is new; tell whether the journal has ended.

        Metrics of a stage at work wait until `rest` seconds have passed since the last ones: a training loop waits for the slower
        of its threads, so that whatever else runs costs it more than its share of the machine.
        """
        if self.state.get("ended"):
            return True
        with (self.folder / "record.jsonl").open("rb") as file:
            file.seek(self.state["offset"])
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        records = [json.loads(line) for line in new.splitlines()]
        if not records:
            return self._abandoned()
        if all(record["kind"] == "metrics" for record in records) and time.monotonic() - self.sent < rest:
            return False
        self.sent = time.monotonic()
        self._send(records)
        self.state["offset"] += len(new)
        self.state["ended"] = records[-1]["kind"] == "end"
        self._save()
        return bool(self.state["ended"])

    def _save(self) -> None:
        working = self.state_file.with_suffix(".new")
        working.write_text(json.dumps(self.state))
        working.replace(self.state_file)

    def _send(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = []
        for record in records:
            kind, stamp = record["kind"], int(record["time"] * 1000)
            if kind == "start":
                self._start(record, stamp)
            elif kind == "metrics":
                metrics += [Metric(key, value, stamp, record["step"]) for key, value in record["values"].items()]
                self.state["metrics"] = True
            elif kind == "tags":
                for key, value in record["values"].items():
                    self.client.set_tag(self.state["run"], key, value)
            elif kind == "data":
                self._data(record["name"], record["source"], record["digest"], json.dumps(record["profile"]))
            elif kind == "file":
                self.client.log_artifact(self.state["run"], str(self.folder / "files" / record["name"]), record["folder"] or None)
            elif kind == "table":
                self._table(record["name"])
            elif kind == "model":
                self._model(record, stamp)
            elif kind == "scores":
                self._scores(record, stamp)
        self._metrics(self.state["run"], metrics)
        if records[-1]["kind"] == "end":
            self._end(records[-1]["status"], records[-1]["error"], int(records[-1]["time"] * 1000))

    def _start(self, record: dict[str, Any], stamp: int) -> None:
        from mlflow.entities import Param

        experiment = mlflow_client.experiment(self.client)
        known = self.client.search_runs([experiment], f"tags.`{pipeline_runs.KEY}` = '{record['key']}'", max_results=1)
        tags = {pipeline_runs.KEY: record["key"], **record["tags"]}
        tags |= {f"input.{path}": digest for path, digest in record["inputs"].items()}
        if record["pipeline"]:
            self.state["pipeline"] = record["pipeline"]["key"]
            tags |= pipeline_runs.tags(self.client, experiment, record["pipeline"], stamp)
        run = known[0] if known else self.client.create_run(experiment, stamp, tags, record["stage"])
        self.state |= {"run": run.info.run_id, "experiment": experiment, "pid": record["pid"], "born": record["born"]}
        self.state |= {"inputs": record["inputs"], "params": {key: str(value) for key, value in record["params"].items()}}
        self._save()
        self.client.log_batch(self.state["run"], params=[Param(key, value) for key, value in self.state["params"].items()])
        for path, digest in record["inputs"].items():
            if path.startswith("data/"):
                self._data(path, path, digest, "{}")

    def _data(self, name: str, source: str, digest: str, profile: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        context = {"val": "validation", "test": "testing"}.get(Path(name).name, "training")
        data = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), profile=profile)
        self.client.log_inputs(self.state["run"], [DatasetInput(data, [InputTag("mlflow.data.context", context)])])

    def _table(self, name: str) -> None:
        """Log a table so that MLflow's page of several runs shows it."""
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        self.client.log_artifact(self.state["run"], str(self.folder / "files" / name))
        self.client.set_tag(self.state["run"], MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": name, "type": "table"}]))

    def _model(self, record: dict[str, Any], stamp: int) -> None:
        """Make the checkpoint a logged model, once, with its figures on what it was validated on."""
        from mlflow.entities import LoggedModelOutput

        listed = self.client.search_logged_models([self.state["experiment"]], f"source_run_id = '{self.state['run']}'")
        model = listed[0].model_id if listed else ""
        if not listed:
            tags = {registry.SHA: record["sha256"], registry.MODEL: record["name"]}
            made = self.client.create_logged_model(
                self.state["experiment"], name=record["name"].replace("/", "-"), source_run_id=self.state["run"], tags=tags,
                params=self.state["params"], model_type="image classifier",
            )  # fmt: skip
            model = made.model_id
        if not listed or str(listed[0].status) != "READY":  # or an earlier attempt ended in the middle
            self.client.log_model_artifacts(model, str(self.folder / "files"))
            self.client.finalize_logged_model(model, "READY")
            self.client.log_outputs(self.state["run"], [LoggedModelOutput(model, record["step"])])
        seen = [path for path in self.state["inputs"] if path.startswith("data/")]
        held = next((path for path in seen if Path(path).name == "val"), seen[0] if seen else None)
        self._figures(self.state["run"], model, record, stamp, held)

    def _scores(self, record: dict[str, Any], stamp: int) -> None:
        """Log figures of a checkpoint that another run made, with that run, and with its logged model."""
        model = registry.logged_model(self.client, self.state["experiment"], record["sha256"])
        if model and model.source_run_id and self.client.get_run(model.source_run_id).info.lifecycle_stage == "active":
            self._figures(model.source_run_id, model.model_id, record, stamp, record["data"])

    def _figures(self, run: str, model: str, record: dict[str, Any], stamp: int, data: str | None) -> None:
        from mlflow.entities import Metric

        digest = self.state["inputs"].get(data, "")[:36]
        about = {"dataset_name": data, "dataset_digest": digest} if digest else {}
        made = [
            Metric(key, value, stamp, record["step"], model_id=model, run_id=run, **about)
            for key, value in record["values"].items()
        ]
        self._metrics(run, made)

    def _metrics(self, run: str, metrics: list[Any]) -> None:
        for i in range(0, len(metrics), AT_ONCE):
            self.client.log_batch(run, metrics=metrics[i : i + AT_ONCE])

    def _end(self, status: str, error: str, stamp: int) -> None:
        if error:
            self.client.set_tag(self.state["run"], "darkroom.error", error[:5000])
        self.client.set_terminated(self.state["run"], status, stamp)

    def _abandoned(self) -> bool:
        """End the run of a stage that is gone without a word."""
        if not self.state["run"]:  # killed before it could say what it is
            return time.time() - (self.folder / "record.jsonl").stat().st_mtime > NAMELESS
        if provenance.is_alive(self.state["pid"], self.state["born"]):
            return False
        with (self.folder / "record.jsonl").open("rb") as file:  # its last words may have come just now
            file.seek(self.state["offset"])
            if b"\n" in file.read():
                return False
        self._end("KILLED", "the stage's process ended without a word", int(time.time() * 1000))
        return True

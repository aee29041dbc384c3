"""The process that carries journals to MLflow: started by the first stage that runs, gone when there is nothing left to do.

A journal is followed while its stage writes it, and removed when its end has been delivered. What was delivered is
noted after each batch, and a run is found again by its key, so that a second attempt neither loses nor doubles a run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from darkroom.tracking import asking, provenance, registry, store
from darkroom.tracking.journal import JOURNAL
from darkroom.tracking.locks import hold

IDLE = 20.0  # seconds without a journal after which the process ends
POLL = 0.25
NAMELESS = 60.0  # seconds after which a record without a first line is dropped
DAMAGED = JOURNAL.with_name("damaged")
STOP = JOURNAL / "deliver.stop"  # asks the process in the background to let go
KEY = "darkroom.key"
PIPELINE = "darkroom.pipeline"


class Delivery:
    """Follows one journal."""

    def __init__(self, folder: Path, client: Any) -> None:
        self.folder, self.client = folder, client
        self.state_file = folder / "delivered.json"
        self.state: dict[str, Any] = {"offset": 0, "run": "", "parent": ""}
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())

    def advance(self) -> bool:
        """Deliver what is new; tell whether the journal has ended."""
        if self.state.get("ended"):
            return True
        with (self.folder / "record.jsonl").open("rb") as file:
            file.seek(self.state["offset"])
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        records = [json.loads(line) for line in new.splitlines()]
        if not records:
            return self._abandoned()
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
            elif kind == "tags":
                for key, value in record["values"].items():
                    self.client.set_tag(self.state["run"], key, value)
            elif kind == "data":
                self._data(record)
            elif kind == "file":
                self.client.log_artifact(self.state["run"], str(self.folder / "files" / record["name"]))
        for i in range(0, len(metrics), 500):
            self.client.log_batch(self.state["run"], metrics=metrics[i : i + 500])
        if records[-1]["kind"] == "end":
            self._end(records[-1]["status"], records[-1]["error"], int(records[-1]["time"] * 1000))

    def _start(self, record: dict[str, Any], stamp: int) -> None:
        from mlflow.entities import Param

        experiment = store.experiment(self.client)
        known = self.client.search_runs([experiment], f"tags.`{KEY}` = '{record['key']}'", max_results=1)
        tags = {KEY: record["key"], **record["tags"]}
        tags |= {f"input.{path}": digest for path, digest in record["inputs"].items()}
        if record["pipeline"]:
            self.state["parent"] = self._parent(experiment, record["pipeline"], stamp)
            tags |= {"mlflow.parentRunId": self.state["parent"], PIPELINE: record["pipeline"]["key"]}
        run = known[0] if known else self.client.create_run(experiment, stamp, tags, record["stage"])
        self.state |= {"run": run.info.run_id, "pid": record["pid"], "born": record["born"]}
        self._save()
        params = [Param(key, str(value)) for key, value in record["params"].items()]
        self.client.log_batch(self.state["run"], params=params)

    def _parent(self, experiment: str, pipeline: dict[str, str], stamp: int) -> str:
        query = f"tags.`{PIPELINE}` = '{pipeline['key']}' and tags.`darkroom.stage` = 'pipeline'"
        known = self.client.search_runs([experiment], query, max_results=1)
        if known:
            return known[0].info.run_id
        tags = {PIPELINE: pipeline["key"], "darkroom.stage": "pipeline"}
        name = f"{pipeline['name']} {time.strftime('%Y-%m-%d %H:%M', time.localtime(stamp / 1000))}"
        return self.client.create_run(experiment, stamp, tags, name).info.run_id

    def _data(self, record: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(
            record["name"], record["digest"][:36], "local", json.dumps({"uri": record["source"]}),
            profile=json.dumps(record["profile"]),
        )  # fmt: skip
        self.client.log_inputs(self.state["run"], [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def _end(self, status: str, error: str, stamp: int) -> None:
        if error:
            self.client.set_tag(self.state["run"], "darkroom.error", error[:5000])
        self.client.set_terminated(self.state["run"], status, stamp)
        if self.state["parent"]:
            parent = self.client.get_run(self.state["parent"])
            failed = "FAILED" in (status, parent.info.status)
            self.client.set_terminated(self.state["parent"], "FAILED" if failed else "FINISHED", stamp)

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


def journals() -> list[Path]:
    """Return the folders of the runs that are not delivered to their end, oldest first."""
    return sorted(path.parent for path in JOURNAL.glob("*/record.jsonl"))


def deliver(until_empty: bool) -> int:
    """Deliver journals until none is left (`until_empty`, which leaves running stages alone) or none has come for a while.

    Return how many runs were delivered to their end. Errors of the tracking server are raised.
    """
    DAMAGED.mkdir(parents=True, exist_ok=True)
    client = store.client()
    open_: dict[Path, Delivery] = {}
    ended, quiet = 0, time.monotonic()
    while True:
        busy = asking.serve(registry.perform, store.uri())
        for folder in journals():
            delivery = open_.setdefault(folder, Delivery(folder, client))
            before = delivery.state["offset"]
            try:
                done = delivery.advance()
            except (OSError, ValueError, KeyError) as error:  # this record is damaged; the others are not
                print(f"{folder} cannot be delivered: {error!r}", file=sys.stderr)
                shutil.move(folder, DAMAGED.joinpath(folder.name))
                continue
            if done:
                shutil.rmtree(folder)
                del open_[folder]
                ended += 1
            busy = busy or done or delivery.state["offset"] > before
        at_work = [delivery for folder, delivery in open_.items() if folder.exists() and delivery.state["run"]]
        if busy or at_work:
            quiet = time.monotonic()
        if until_empty and not busy:
            return ended
        if time.monotonic() - quiet > IDLE or (not until_empty and STOP.exists()):
            return ended
        time.sleep(0.05 if until_empty else POLL)


def main() -> int:
    """Deliver in the background; only one process of a workspace does."""
    os.nice(5)
    with hold(JOURNAL / "deliver.lock", wait=2) as mine:  # others try the lock for an instant, to see whether it is taken
        if not mine:
            return 0
        try:
            deliver(until_empty=False)
        except Exception as error:
            asking.refuse()
            print(f"{time.strftime('%F %T')} not delivered, `darkroom sync` tries again: {error}", file=sys.stderr)
            return 1
    return 0


def sync() -> int:
    """Deliver what is there, after any delivering process has let go; return the number of runs that ended.

    Raises WorkspaceError where the tracking server cannot be used; what was not delivered is kept.
    """
    JOURNAL.mkdir(parents=True, exist_ok=True)
    STOP.touch()
    try:
        with hold(JOURNAL / "deliver.lock"), store.reachable():
            return deliver(until_empty=True)
    finally:
        STOP.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())

"""The process that carries journals to MLflow: started by the first stage that runs, gone when there is nothing left to do.

A journal is followed while its stage writes it, and removed when its end has been delivered; a pipeline's folder once it has
ended and all its journals are gone. What was delivered is noted after each batch, and a run is found again by its key, so that a
second attempt neither loses nor doubles a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking import mlflow_client, pipeline_runs, pipelines, provenance, requests
from darkroom.tracking.records import JOURNAL, REFUSED, start_delivery
from darkroom.tracking.runs import Delivery
from darkroom.tracking.system_metrics import System

IDLE = 20.0  # seconds without a journal after which the process ends
POLL = 0.25
REST = 5.0  # seconds between the metrics of one run
PAUSE = 60.0  # seconds between attempts to reach a server, at most
DAMAGED = JOURNAL.with_name("damaged")
# what a server answers that will answer the same next time
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
STOP = JOURNAL / "deliver.stop"  # asks the process in the background to let go


def journals() -> list[Path]:
    """Return the folders of the runs that are not delivered to their end, oldest first."""
    return sorted(path.parent for path in JOURNAL.glob("*/record.jsonl"))


def deliver(until_empty: bool) -> int:
    """Deliver journals until none is left (`until_empty`, which leaves running stages alone) or none has come for a while.

    Return how many runs were delivered to their end. Errors of the tracking server are raised.
    """
    DAMAGED.mkdir(parents=True, exist_ok=True)
    client = mlflow_client.client()
    REFUSED.unlink(missing_ok=True)
    machine = System()
    open_: dict[Path, Delivery] = {}
    ended, quiet = 0, time.monotonic()
    while True:
        done, busy = _journals(client, open_, 0.0 if until_empty else REST)
        ended += done
        busy = requests.serve(requests.perform, mlflow_client.uri()) or busy
        at_work = [delivery for folder, delivery in open_.items() if folder.exists() and delivery.state["run"]]
        machine.sample(client, {delivery.state["run"]: delivery.state.get("metrics", False) for delivery in at_work})
        idle = time.monotonic() - quiet > IDLE or (until_empty and not busy)
        running = _pipelines(client, {delivery.state["pipeline"] for delivery in at_work}, idle)
        if busy or at_work or running:
            quiet = time.monotonic()
        if until_empty and not busy:
            return ended
        if time.monotonic() - quiet > IDLE or (not until_empty and STOP.exists()):
            return ended
        time.sleep(0.05 if until_empty else POLL)


def _journals(client: Any, open_: dict[Path, Delivery], rest: float) -> tuple[int, bool]:
    """Deliver what is new in every journal; return how many have ended, and whether there was anything."""
    ended, busy = 0, False
    for folder in journals():
        delivery = open_[folder] = open_.get(folder) or Delivery(folder, client)
        before = delivery.state["offset"]
        try:
            done = delivery.advance(rest)
        except Exception as error:
            if not _its_own_fault(error):
                raise
            _set_aside(folder, error)
            del open_[folder]
            continue
        if done:
            shutil.rmtree(folder)
            del open_[folder]
            ended += 1
        busy = busy or done or delivery.state["offset"] > before
    return ended, busy


def _pipelines(client: Any, at_work: set[str], idle: bool) -> bool:
    """End the pipelines that have ended; tell whether there is one whose process runs.

    One whose process is not known has ended, for now, where nothing has happened for a while.
    """
    running = False
    pipelines.close_ended()
    for pipeline in pipelines.every():
        try:
            about, over = pipeline.about, pipeline.over
            ended = over or (idle and over is None)
            if about["key"] in at_work or not ended or about["key"] in _undelivered():
                running = running or over is False
                continue
            if not pipeline.end:
                pipelines.close(pipeline)
            pipeline_runs.settle(client, pipeline)
            pipelines.forget(pipeline)
        except Exception as error:
            if not _its_own_fault(error):
                raise
            _set_aside(pipeline.folder, error)
    return running


def _undelivered() -> set[str]:
    """Return the keys of the pipelines of which a stage's record is still here."""
    found = set()
    for folder in journals():
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            found.add(json.loads((folder / "record.jsonl").read_text().splitlines()[0])["pipeline"]["key"])
    return found


def _its_own_fault(error: Exception) -> bool:
    """Tell whether an error lies in what is delivered, and not in the server or the disk, which may work again later."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    if isinstance(error, RequestException):  # some of them are ValueErrors
        return False
    return isinstance(error, (FileNotFoundError, ValueError, KeyError, TypeError, WorkspaceError))


def _set_aside(folder: Path, error: Exception) -> None:
    """Move what cannot be delivered out of the way of the rest."""
    print(f"{folder} cannot be delivered, and is kept in {DAMAGED}: {error!r}", file=sys.stderr, flush=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.move(folder, DAMAGED / f"{folder.name}-{time.time_ns()}")


def main() -> int:
    """Deliver in the background; only one process of a workspace does.

    While stages are at work it tries again and again to reach a server that cannot be reached.
    """
    os.nice(5)
    with hold(JOURNAL / "deliver.lock", wait=2) as mine:  # others try the lock for an instant, to see whether it is taken
        if not mine:
            return 0
        pause = 2.0
        while True:
            try:
                deliver(until_empty=False)
                return 0
            except Exception as error:
                said = str(error).splitlines()[0][:300] if str(error) else repr(error)
                REFUSED.write_text(said)
                print(f"{time.strftime('%F %T')} not delivered: {said}", file=sys.stderr, flush=True)
            if not _waited(pause):
                return 1
            pause = min(2 * pause, PAUSE)


def _waited(seconds: float) -> bool:
    """Wait, and answer every question with None; tell whether a stage or a pipeline is still at work."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not STOP.exists():
        requests.refuse()
        pipelines.close_ended()
        if not (any(_at_work(folder) for folder in journals()) or any(item.over is False for item in pipelines.every())):
            return False
        time.sleep(POLL)
    return not STOP.exists()


def _at_work(folder: Path) -> bool:
    """Tell whether the stage that writes a journal still runs."""
    try:
        lines = (folder / "record.jsonl").read_text().splitlines()
        start, last = json.loads(lines[0]), json.loads(lines[-1])
        return last["kind"] != "end" and provenance.is_alive(start["pid"], start["born"])
    except (OSError, ValueError, KeyError, IndexError):
        return False


def sync() -> int:
    """Deliver what is there, after any delivering process has let go; return the number of runs that ended.

    Raises WorkspaceError where the tracking server cannot be used; what was not delivered is kept.
    """
    JOURNAL.mkdir(parents=True, exist_ok=True)
    STOP.touch()
    try:
        with hold(JOURNAL / "deliver.lock"), mlflow_client.reachable():
            count = deliver(until_empty=True)
    finally:
        STOP.unlink(missing_ok=True)
    if waiting():  # stages at work go on being followed
        start_delivery()
    return count


def waiting() -> bool:
    """Tell whether there is anything that MLflow does not know yet."""
    return bool(journals() or pipelines.every())


if __name__ == "__main__":
    raise SystemExit(main())

"""What a stage or command asks of MLflow and waits for: done by the delivering process, which has MLflow in memory already.

A question is a file in `.darkroom/journal/asked/`, its answer another one beside it. Where no delivering process can be had,
or it fails, there is no answer, and whoever asks does the work itself.
"""

from __future__ import annotations

import importlib
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from darkroom.core import locks
from darkroom.tracking import mlflow_client, provenance, records
from darkroom.tracking.home import HOME

ASKED = records.JOURNAL / "asked"
LOCK = HOME / ".darkroom/registry.lock"
PATIENCE = 20.0  # seconds in which a delivering process must have started
Work = Callable[[dict[str, Any]], dict[str, Any]]


def done(room: str, work: str, **details: Any) -> dict[str, Any]:
    """Return what a piece of work came to: `WORK[work]` of a module of this room, done by the delivering process or else here."""
    question = {"room": room, "work": work, **details}
    return ask(question, mlflow_client.uri()) or perform(question)


def perform(question: dict[str, Any]) -> dict[str, Any]:
    """Do the work that is asked for."""
    details = dict(question)
    module = importlib.import_module(f"darkroom.tracking.{details.pop('room')}")
    work = module.WORK[details.pop("work")]
    with mlflow_client.reachable(), locks.hold(LOCK):
        return work(mlflow_client.client(), **details)


def ask(question: dict[str, Any], uri: str) -> dict[str, Any] | None:
    """Return the answer to a question about the MLflow at `uri`, or None where nobody could give one."""
    ASKED.mkdir(parents=True, exist_ok=True)
    file = ASKED / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.question"
    content = {"question": question, "uri": uri, "pid": os.getpid(), "born": provenance.born(os.getpid())}
    _write(file, content)
    answer = file.with_suffix(".answer")
    try:
        records.start_delivery()
        looked = alive = time.monotonic()
        while not answer.exists():
            now = time.monotonic()
            if now - looked > 2:
                looked = now
                if locks.is_taken(records.JOURNAL / "deliver.lock"):
                    alive = now
                else:
                    records.start_delivery()
            if now - alive > PATIENCE:
                return None
            time.sleep(0.05)
        return json.loads(answer.read_text())["answer"]
    finally:
        file.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)


def serve(work: Work, uri: str) -> bool:
    """Answer what is asked, with None where the work fails or is about another MLflow; tell whether there was anything."""
    questions = sorted(ASKED.glob("*.question"))
    for file in questions:
        try:
            content = json.loads(file.read_text())
        except FileNotFoundError:  # no longer wanted
            continue
        if provenance.is_alive(content["pid"], content["born"]):
            _write(file.with_suffix(".answer"), {"answer": _answer(work, content["question"]) if content["uri"] == uri else None})
        file.unlink(missing_ok=True)
    return bool(questions)


def refuse() -> None:
    """Answer what is asked with None, so that nobody waits for a process that cannot do its work."""
    for file in ASKED.glob("*.question"):
        _write(file.with_suffix(".answer"), {"answer": None})


def _answer(work: Work, question: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return work(question)
    except Exception as error:
        print(f"{time.strftime('%F %T')} asked in vain: {error!r}", flush=True)
        return None


def _write(file: Path, content: dict[str, Any]) -> None:
    working = file.with_suffix(f"{file.suffix}.new")
    working.write_text(json.dumps(content))
    working.replace(file)

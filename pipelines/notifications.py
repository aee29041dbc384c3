"""Who hears of a failure: a command and a webhook that the environment names. Prefect is not imported here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

COMMAND, WEBHOOK = "DARKROOM_NOTIFY_COMMAND", "DARKROOM_NOTIFY_WEBHOOK"
SAYING = 10.0  # seconds in which a message must be delivered


def tell(flow: str, run: str, number: str, state: str, message: str, page: str = "") -> None:
    """Tell that a flow run has ended badly: its flow, its name and id, its state with its words, the address of its page."""
    text = f"{flow}/{run} {state.lower()}: {message}"
    content = {"text": text, "flow": flow, "run": run, "id": number, "state": state, "message": message,
               "folder": str(Path.cwd()), "url": page}  # fmt: skip
    if command := os.environ.get(COMMAND):
        _said(COMMAND, lambda: subprocess.run(
            command, shell=True, input=text, text=True, timeout=SAYING, check=True,
            env=os.environ | {f"DARKROOM_{key.upper()}": str(value) for key, value in content.items()},
        ))  # fmt: skip
    if address := os.environ.get(WEBHOOK):
        request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
        _said(WEBHOOK, lambda: urllib.request.urlopen(request, timeout=SAYING).close())


def _said(what: str, say: Callable[[], object]) -> None:
    try:
        say()
    except Exception as error:
        print(f"nobody was told of the failure by {what}: {error}", file=sys.stderr)

"""Notifications of failures and of drift, sent to a command and to a webhook that the environment names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from darkroom.core import deadline

COMMAND, WEBHOOK = "DARKROOM_NOTIFY_COMMAND", "DARKROOM_NOTIFY_WEBHOOK"
TIMEOUT = 10.0  # seconds


def send(flow: str, run: str, run_id: str, state: str, message: str, url: str = "", page: Path | None = None) -> None:
    """Send the notification that a flow run failed or has found drift.

    `url` is the address of the run in Prefect's pages, `page` the HTML file that shows what was found.
    """
    shown = str(page.resolve()) if page else ""
    text = f"{flow}/{run} {state.lower()}: {message}" + (f"\nsee {shown}" if page else "")
    content = {"text": text, "flow": flow, "run": run, "id": run_id, "state": state, "message": message,
               "folder": str(Path.cwd()), "url": url, "page": shown}  # fmt: skip
    if command := os.environ.get(COMMAND):
        _try(COMMAND, lambda: subprocess.run(
            command, shell=True, input=text, text=True, timeout=TIMEOUT, check=True,
            env=os.environ | {f"DARKROOM_{key.upper()}": value for key, value in content.items()},
        ))  # fmt: skip
    if address := os.environ.get(WEBHOOK):
        _try(WEBHOOK, lambda: _post(address, content))


def _post(address: str, content: dict[str, str]) -> None:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    deadline.fetch(request, TIMEOUT)


def _try(channel: str, deliver: Callable[[], object]) -> None:
    try:
        deliver()
    except Exception as error:
        print(f"sending the notification by {channel} failed: {_reason(error)}", file=sys.stderr)


def _reason(error: Exception) -> str:
    """Return why a channel failed, without its command or address, which may have a password or a token."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit code {error.returncode}"
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or type(cause).__name__)

"""`darkroom ui`: addresses that open on runs, one small server, and a port that is taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from darkroom import cli
from darkroom.commands import ui
from darkroom.tracking import home, mlflow_client, views
from tests.conftest import ROOT


@pytest.fixture
def started(monkeypatch) -> list[tuple[list[str], dict[str, str]]]:
    """Return what is started in place of the command: arguments and environment."""
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: calls.append((arguments, environment)))
    return calls


@pytest.mark.slow
def test_it_opens_on_runs(workspace, started, capsys):
    """The addresses name the experiment, a view that it has, and the pages of machine learning; the server has one worker and
    no processes for jobs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert cli.main(["ui", "--port", str(port)]) == 0
    client = mlflow_client.client()
    experiment = mlflow_client.experiment(client)
    tags = client.get_experiment(experiment).tags
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if "http" in line)
    assert set(printed) == {views.PIPELINES, views.MODELS}
    for key, address in printed.items():
        assert address.startswith(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?viewStateShareKey={key}&")
        assert "workflowType=machine_learning" in address
        assert "test_accuracy" in tags[f"mlflow.sharedViewState.{key}"]
    ((arguments, environment),) = started
    assert arguments[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert arguments[-4:] == ["--port", str(port), "--workers", "1"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == home.uri()
    assert home.uri() not in arguments  # it may have a password, and all users see the arguments
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_port_that_is_taken(started, capsys, monkeypatch):
    """Where another process has the port, a message names the remedy, with a port that is free, and nothing is started."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["ui", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port}" in error
    free = int(error.split("PORT=")[1].split("`")[0])
    assert ui._is_free(free)
    assert not started


def test_make_hands_the_port_over():
    """`make ui PORT=5055` gives the port to the command."""
    printed = subprocess.run(["make", "-n", "-o", "install", "ui", "PORT=5055"], cwd=ROOT, capture_output=True, text=True).stdout
    script = printed.replace(".venv/bin/darkroom", "echo")
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={"PORT": "5055"})
    assert shown.stdout.split() == ["ui", "--port", "5055"]

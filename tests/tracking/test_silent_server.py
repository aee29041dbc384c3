"""An MLflow server that takes connections and never says anything."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator

import pytest

from darkroom import cli
from darkroom.tracking import mlflow_client
from tests.conftest import ROOT


@pytest.fixture
def silent(own_mlflow, tmp_path, monkeypatch) -> Iterator[str]:
    """Yield the address of such a server, which is MLFLOW_TRACKING_URI with a password."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pass123@{address}")
        yield address


def test_a_silent_server_is_named(silent, monkeypatch, capsys):
    """A command waits for it for seconds, not for minutes, then names it without the password, and ends with 75: try later."""
    assert mlflow_client.RESPONSE_LIMIT <= 10
    monkeypatch.setattr(mlflow_client, "RESPONSE_LIMIT", 0.3)
    begin = time.monotonic()
    for arguments in (["models"], ["rollback"], ["lineage", "champion"]):
        assert cli.main(arguments) == 75
        error = capsys.readouterr().err
        assert f"http://***@{silent} does not respond" in error
        assert "remedy:" in error
        assert "pass123" not in error
    assert time.monotonic() - begin < 60  # MLflow itself waits for 120 s, several times

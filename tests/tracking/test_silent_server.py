"""MLflow servers that take connections and answer nothing, only `/health`, or a few bytes at a time for ever."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from darkroom import cli
from darkroom.core import locks
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import mlflow_client, requests, server_check
from tests.conftest import ROOT
from tests.servers import server


@pytest.fixture(params=["silent", "only health", "drips"])
def silent(request, own_mlflow, tmp_path, monkeypatch) -> Iterator[str]:
    """Yield the address of such a server, which is MLFLOW_TRACKING_URI with a password."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with server(request.param) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pass123@{address}")
        yield address


def test_a_silent_server_is_named(silent, monkeypatch, capsys):
    """A command waits for it for seconds, not for minutes, then names it without the password, and ends with 75: try later."""
    assert server_check.LIMIT <= 10
    monkeypatch.setattr(server_check, "LIMIT", 0.3)
    begin = time.monotonic()
    for arguments in (["models"], ["rollback"], ["lineage", "champion"]):
        assert cli.main(arguments) == 75
        error = capsys.readouterr().err
        assert f"http://***@{silent} does not respond" in error
        assert "remedy:" in error
        assert "pass123" not in error
    assert time.monotonic() - begin < 60  # MLflow itself waits for 120 s, several times


@pytest.mark.parametrize("kind", ["answers", "nobody there"])
def test_what_answers_or_is_not_there_is_left_to_mlflow(kind):
    """Any answer within the limit is one, an error too; that nobody listens is MLflow's to report."""
    with server("answers") as address:
        server_check.check(f"http://{address if kind == 'answers' else '127.0.0.1:9'}")


def test_nobody_waits_in_silence(tmp_path, monkeypatch, capsys):
    """After some seconds a command says which lock or which MLflow it waits for, and it does not wait for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "NOTICE", 0.1)
    monkeypatch.setattr(requests, "NOTICE", 0.1)
    monkeypatch.setattr(requests, "LIMIT", 0.3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pass123@127.0.0.1:9")
    lock = Path(requests.LOCK).absolute()
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(WorkspaceError) as caught, requests._noticed():
        requests.perform("a:b", {})
    assert caught.value.code == 75
    message = capsys.readouterr().err
    assert f"which holds {requests.LOCK}" in message
    assert "waiting for MLflow at http://***@127.0.0.1:9" in message


@pytest.mark.parametrize(("scheme", "package"), [("postgresql+psycopg2", "psycopg2-binary"), ("mssql+pyodbc", "pyodbc")])
def test_a_database_without_its_driver_names_the_package(tmp_path, monkeypatch, scheme, package):
    """The sentence has the package to install, no password and no traceback; exit code 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:pass123@127.0.0.1:9/x")
    for module in ("psycopg2", "pyodbc"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WorkspaceError, match=package) as caught:
        mlflow_client.client()
    assert caught.value.code == 2
    assert "pass123" not in str(caught.value)

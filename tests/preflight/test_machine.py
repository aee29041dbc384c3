"""What `darkroom doctor` finds on a machine."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.core import platforms
from darkroom.preflight import machine
from darkroom.preflight.machine import FAULT, NOTE, OK, Finding


@contextmanager
def server(code, logins=None):
    """Yield the address of a server that answers everything with a code, `/health` with 200 if that is 401; note all logins."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if logins is not None:
                logins.append(self.headers["Authorization"])
            self.send_response(200 if code == 401 and self.path.endswith("/health") else code)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def states(findings):
    return {finding.subject: finding.state for finding in findings}


def test_packages_that_do_not_fit_are_named(monkeypatch):
    """A missing package and one of another version are named with the remedy; extras and markers of others are left out."""
    requirements = [
        "numpy>=999",
        "no-such-package-here",
        "click",
        'also-missing; extra == "dev"',
        'missing-too; python_version < "3"',
    ]
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: requirements)
    (finding,) = machine._packages()
    assert (finding.state, finding.remedy) == (FAULT, machine.REINSTALL)
    assert "numpy is" in finding.text
    assert ">=999" in finding.text
    assert "no-such-package-here is missing" in finding.text
    assert "click" not in finding.text
    assert "missing; " not in finding.text.replace("no-such-package-here is missing", "")


@pytest.mark.parametrize(
    ("probe", "has_device", "expected"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", False, {"torch": FAULT}),
        ("import os; os._exit(3)", False, {"torch": FAULT}),
        ("print('no JSON')", False, {"torch": FAULT}),
        ("print({gpus})", True, {"torch": OK, "GPU": OK}),
        ("print({none})", False, {"torch": OK, "GPU": OK}),
        ("print({none})", True, {"torch": OK, "GPU": FAULT}),
    ],
)
def test_a_torch_that_cannot_be_used_has_a_remedy(monkeypatch, probe, has_device, expected):
    """Torch and torchvision are imported in a process: what fails there, or a GPU that torch does not use, is a fault."""
    versions = {"torch": "2", "torchvision": "0", "threads": 2, "mps": False}
    texts = {name: repr(json.dumps(versions | {"gpus": gpus})) for name, gpus in (("gpus", ["H200"]), ("none", []))}
    monkeypatch.setattr(machine, "PROBE", probe.format(**texts))
    monkeypatch.setattr(platforms, "has_nvidia_device", lambda: has_device)
    findings = list(machine._torch())
    assert states(findings) == expected
    assert all(finding.remedy for finding in findings if finding.state == FAULT)


def test_a_dvc_beside_darkroom_alone_is_a_note(tmp_path, monkeypatch):
    """`uv tool` and pipx put no `dvc` on the PATH: `darkroom repro` finds it, and a person is told."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine.sys, "executable", str(tmp_path / "tool" / "python"))
    assert states(machine._programs())["dvc"] == FAULT
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "dvc").touch(mode=0o755)
    assert states(machine._programs())["dvc"] == NOTE
    (tmp_path / "dvc").touch(mode=0o755)
    assert states(machine._programs())["dvc"] == OK


def test_servers_are_asked_and_secrets_are_masked(monkeypatch):
    """One that responds is well; one that does not, or fails, or refuses the login, is a fault, and one that wants a login where
    none is in the environment a note. No password is shown, and each is sent to its own server."""
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for code, state in ((200, OK), (401, FAULT), (403, FAULT), (500, FAULT)):
        with server(code) as address:
            (finding,) = machine._servers(f"http://me:secret@{address}")
            assert finding.state == state
            assert "secret" not in finding.text
            assert address in finding.text
    logins = []
    with server(401, logins) as address:
        assert states(machine._servers(f"http://{address}")) == {"MLflow": NOTE}
        monkeypatch.setenv("PREFECT_API_URL", f"http://{address}/api")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "c")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "d")
        assert states(machine._servers(f"http://{address}")) == {"MLflow": FAULT, "Prefect": FAULT}
    assert logins == [None, None, None, "Basic Yzpk", None, "Basic YTpi"]
    assert states(machine._servers("sqlite:///mlflow.db")) == {"MLflow": OK, "Prefect": FAULT}  # it has ended
    assert states(machine._servers("sqlite:///no/such/folder/mlflow.db"))["MLflow"] == FAULT


def test_a_project_is_looked_at_as_a_run_would(tmp_path, monkeypatch):
    """A folder without params.yaml is no fault; one whose params are refused has their error and remedy."""
    monkeypatch.chdir(tmp_path)
    assert states(machine._project()) == {"project": NOTE}
    Path("params.yaml").write_text("backbones: 3\n")
    (finding,) = machine._project()
    assert finding.state == FAULT
    assert finding.remedy


def test_a_remote_in_a_folder_that_is_gone_is_a_fault(tmp_path, monkeypatch):
    """Without a remote by default there is a note, with one that cannot be reached a fault, without DVC nothing."""
    monkeypatch.chdir(tmp_path)
    assert list(machine._remote()) == []
    Path(".dvc").mkdir()
    settings = {}
    monkeypatch.setattr(machine, "_dvc_config", lambda key: settings.get(key, ""))
    assert states(machine._remote()) == {"DVC remote": NOTE}
    settings |= {"core.remote": "disk", "remote.disk.url": str(tmp_path / "store")}
    assert states(machine._remote()) == {"DVC remote": FAULT}
    (tmp_path / "store").mkdir()
    assert states(machine._remote()) == {"DVC remote": OK}


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (NOTE, 0), (FAULT, 1)])
def test_the_exit_code_tells_of_faults_alone(monkeypatch, capsys, state, code):
    """The text has the finding and its remedy, the JSON all fields; a note is no failure."""
    monkeypatch.setattr(machine, "examine", lambda uri: iter([Finding("disk", state, "full", "empty it")]))
    assert cli.main(["doctor"]) == code
    printed = capsys.readouterr().out
    assert "full" in printed
    assert "empty it" in printed
    assert cli.main(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == [{"subject": "disk", "state": state, "text": "full", "remedy": "empty it"}]

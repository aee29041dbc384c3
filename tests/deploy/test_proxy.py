"""Caddy as deploy/ sets it up, in front of MLflow and Prefect with their passwords: what people and machines do by TLS alone."""

from __future__ import annotations

import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgresql
from tests.pipelines.processes import wait_until
from tests.pipelines.projects import create_project
from tests.tracking.clones import make_clones

if postgresql.PROGRAMS is None or not shutil.which("caddy"):
    pytest.skip("PostgreSQL or Caddy is not installed: apt-get install postgresql caddy", allow_module_level=True)
for library in ("flask_wtf", "boto3", "moto"):
    pytest.importorskip(library, reason="the extras dev and s3 are not installed")

from tests.deploy.people import Person, run_pipeline  # noqa: E402
from tests.deploy.team_servers import SECRETS, Team, started  # noqa: E402

pytestmark = pytest.mark.team


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Iterator[Team]:
    with started(tmp_path_factory.mktemp("team")) as team:
        yield team


@pytest.fixture(scope="module")
def trust(team) -> dict[str, str]:
    """Start the proxy; return the variables by which a machine trusts its root certificate, as deploy/README.md has them."""
    root = str(team.start_proxy())
    return {"REQUESTS_CA_BUNDLE": root, "SSL_CERT_FILE": root, "CURL_CA_BUNDLE": root}


def status(address: str, context: ssl.SSLContext | None = None, **headers: str) -> int:
    """Return the HTTP status of a response."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_proxy_has_two_names_and_passes_their_host_on(team, trust):
    """Each name leads to its server, which wants its password; another name gets no certificate, another host nothing of them."""
    context = ssl.create_default_context(cafile=trust["SSL_CERT_FILE"])
    mlflow, prefect = (f"https://{team.hosts[name]}" for name in ("mlflow", "prefect"))
    assert status(f"{mlflow}/health", context) == status(f"{prefect}/api/health", context) == 200
    assert status(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1", context) == 401
    assert status(f"{prefect}/api/admin/version", context) == 401
    with pytest.raises(urllib.error.URLError):
        status(mlflow.replace("localhost", "127.0.0.1"), context)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        status(f"{mlflow}/health", ssl.create_default_context())
    with urllib.request.urlopen(
        urllib.request.Request(f"{mlflow}/health", headers={"Host": "elsewhere.example.org"}), timeout=30, context=context
    ) as response:
        assert response.read() == b""


def test_runs_are_recorded_by_tls(team, trust, tmp_path):
    """A person with the variables that `add-user.sh` prints records a pipeline through the proxy; `darkroom doctor` names both
    servers as well, and without trust in the certificate as a fault with the reason."""
    (clone,) = make_clones(tmp_path, ("0.001",), team.environment)
    address = f"https://{team.hosts['mlflow']}"
    alice = Person(team, "alice", clone, address, **trust)
    assert alice.login["MLFLOW_TRACKING_URI"] == address
    run_pipeline(alice)
    assert not list(Path(clone, ".darkroom", "journal").glob("*/record.jsonl"))
    names = (
        "import mlflow; print([run.info.run_name for run in mlflow.search_runs(search_all_experiments=True, output_format='list')])"
    )
    assert "baseline" in alice.run("-c", names)
    prefect = {"PREFECT_API_URL": f"https://{team.hosts['prefect']}/api", "PREFECT_API_AUTH_STRING": SECRETS["PREFECT_AUTH_STRING"]}
    lines = doctor(alice, **prefect)
    assert "responds" in lines["MLflow"]
    assert "responds" in lines["Prefect"]
    alice.environment.pop("SSL_CERT_FILE")
    assert "CERTIFICATE_VERIFY_FAILED" in doctor(alice, **prefect)["Prefect"]


def doctor(person: Person, **environment: str) -> dict[str, str]:
    """Return what `darkroom doctor` says of each subject; what else it names depends on the machine."""
    script = "import sys; from darkroom import cli; cli.main(['doctor'])"
    printed = person.run("-c", script, **environment).splitlines()
    return {line[2:].split("  ")[0].strip(): line for line in printed if line[:1] in " !✗" and line[2:3].isalpha()}


def test_flows_and_schedules_go_by_tls(team, trust, tmp_path):
    """A flow from the command line, and one of the worker that `make schedule` starts, know the server by TLS alone."""
    project = create_project(tmp_path / "small")
    project.environment |= trust | {
        "PREFECT_API_URL": f"https://{team.hosts['prefect']}/api", "PREFECT_API_AUTH_STRING": SECRETS["PREFECT_AUTH_STRING"],
    }  # fmt: skip
    project.api = f"{team.prefect}/api"  # of what the test asks
    project.prepare()
    assert "3 of 3 stages ran" in project.run("darkroom", "flow", "repro")
    assert project.newest_run()["state"]["type"] == "COMPLETED"
    project.run("pipelines.schedule", "start")
    try:
        project.prepare()
        run_id = project.deploy_run("repro")
        assert wait_until(lambda: project.final_state(run_id))[0] == "Completed"
        assert project.ends("left") == 1
    finally:
        project.run("pipelines.schedule", "stop")

"""The services of deploy/compose.yaml without Docker: their commands with their settings, for real, on ports that are free."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml
from moto.server import ThreadedMotoServer

from tests import postgresql
from tests.conftest import ROOT
from tests.pipelines.processes import wait_until

DEPLOY = ROOT / "deploy"
BUCKET = "darkroom-team"
SECRETS = {
    name: f"{name.lower()}-of-the-tests".replace("_", "-")
    for name in ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "PREFECT_DB_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")
} | {"PREFECT_AUTH_STRING": "team:its password", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
PORTS = {"5000": "mlflow", "4200": "prefect"}
SERVERS = ("mlflow", "prefect")
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]((?:[^{}]|\$\{[^}]*\})*))?\}")


def compose() -> dict[str, Any]:
    """Return the content of compose.yaml."""
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


def filled(text: str, variables: dict[str, str]) -> str:
    """Return a value of compose.yaml with its `${VARIABLE:-default}` filled in."""
    return VARIABLE.sub(lambda match: variables.get(match[1]) or filled(match[2] or "", variables), str(text))


class Team:
    """PostgreSQL, a bucket, and the servers of compose.yaml, each of which can be stopped and started again."""

    def __init__(self, folder: Path, postgres: str, bucket: str) -> None:
        self.folder, self.postgres, self.bucket = folder, postgres, bucket
        self.ports = {name: postgresql.free_port() for name in SERVERS}
        self.mlflow, self.prefect = (f"http://127.0.0.1:{self.ports[name]}" for name in SERVERS)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        _, _, host, port = re.split("[@:]", f"x:{postgres.partition('/')[0]}")
        self.database = {"PGHOST": host, "PGPORT": port, "POSTGRES_USER": "darkroom"}
        self.hosts = {name: f"localhost:{postgresql.free_port()}" for name in SERVERS}  # by which the proxy knows them
        self.variables = SECRETS | {
            "ARTIFACTS": f"s3://{BUCKET}/mlflow", "S3_ENDPOINT_URL": bucket, "MLFLOW_HOSTNAME": self.hosts["mlflow"],
            "PREFECT_HOSTNAME": self.hosts["prefect"], "BACKUPS": str(folder / "backups"), "TLS": "tls internal",
        }  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "DARKROOM_", "AWS_"))}
        path = (str(Path(sys.executable).parent), str(postgresql.PROGRAMS), os.environ["PATH"])
        self.environment = kept | {"PATH": os.pathsep.join(path), "HOME": str(folder)}

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of deploy/ with the settings of .env."""
        return subprocess.run(
            ["sh", str(DEPLOY / script), *arguments], cwd=DEPLOY,
            env=self.environment | self.variables | self.database | environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def start(self, name: str) -> None:
        """Start the command of a service with its environment; hosts and ports are those of the tests."""
        service = compose()["services"][name]
        values = {key: filled(value, self.variables) for key, value in service["environment"].items()}
        words = [self._here(name, str(word)) for word in service["command"]]
        own = {key: self._here(name, value) for key, value in values.items()} | {
            "PREFECT_HOME": str(self.folder / "prefect"), "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "basic_auth.ini"),
            "MLFLOW_WORKERS": "1",
        }  # fmt: skip
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words, cwd=DEPLOY, env=self.environment | own, stdout=log, stderr=log, start_new_session=True
            )

    def _here(self, name: str, value: str) -> str:
        host, port = self.database["PGHOST"], self.database["PGPORT"]
        own_port = next(port for port, server in PORTS.items() if server == name)
        return value.replace("db:5432", f"{host}:{port}").replace("0.0.0.0", "127.0.0.1").replace(own_port, str(self.ports[name]))

    def start_proxy(self) -> Path:
        """Start Caddy with the Caddyfile, and certificates of its own; return the file of its root certificate."""
        upstream = re.sub(
            r"(?:mlflow|prefect):(\d+)", lambda match: self._here_by_port(match[1]), (DEPLOY / "Caddyfile").read_text()
        )
        file, storage = self.folder / "Caddyfile", self.folder / "caddy"
        own = f"admin off\n\tskip_install_trust\n\thttp_port {postgresql.free_port()}"  # this machine stays as it is
        file.write_text(f"{{\n\t{own}\n}}\n{upstream}")
        values = {key: filled(value, self.variables) for key, value in compose()["services"]["proxy"]["environment"].items()}
        with self.log("proxy").open("ab") as log:
            self.processes["proxy"] = subprocess.Popen(
                ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"], cwd=self.folder, stdout=log, stderr=log,
                env=self.environment | values | {"XDG_DATA_HOME": str(storage), "XDG_CONFIG_HOME": str(storage)},
                start_new_session=True,
            )  # fmt: skip
        root = storage / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        wait_until(root.exists)
        for host in self.hosts.values():
            wait_until(lambda host=host: accepts(host))
        return root

    def _here_by_port(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[PORTS[port]]}"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def await_response(self, name: str, path: str) -> None:
        """Wait until a server responds."""
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=5).close()
                return
            except OSError as error:
                if getattr(error, "code", 0) == 401:
                    return
            is_late = self.processes[name].poll() is not None or time.monotonic() > deadline
            assert not is_late, self.log(name).read_text()[-4000:]
            time.sleep(0.3)

    def stop(self, name: str, by: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        os.killpg(process.pid, by)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def accepts(host: str) -> bool:
    """Tell whether somebody listens at `name:port`."""
    name, port = host.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((name, int(port))) == 0


def bucket_client(endpoint: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )  # fmt: skip


@contextmanager
def started(folder: Path) -> Iterator[Team]:
    """Yield MLflow and Prefect of compose.yaml, started."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    bucket.start()
    try:
        with postgresql.database("unused") as postgres:
            team = Team(folder, postgres, f"http://127.0.0.1:{bucket.get_host_and_port()[1]}")
            bucket_client(team.bucket).create_bucket(Bucket=BUCKET)
            result = team.run("databases.sh")
            assert result.returncode == 0, result.stderr
            try:
                for name in SERVERS:
                    team.start(name)
                team.await_response("mlflow", "/health")
                team.await_response("prefect", "/api/health")
                yield team
            finally:
                for name in list(team.processes):
                    team.stop(name)
    finally:
        bucket.stop()

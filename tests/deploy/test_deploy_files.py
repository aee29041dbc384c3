"""The files of deploy/: versions, secrets, and what is open to the network."""

from __future__ import annotations

import re
import shutil
import subprocess

import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(*files: str) -> dict[str, str]:
    """Return the versions that requirement files name."""
    return {name: version for file in files for name, version in PIN.findall((ROOT / file).read_text())}


def test_servers_have_the_versions_of_the_lock():
    """What runs on the servers has the versions that clients have, each with its hashes; no image is `latest`."""
    locked = pins("requirements.lock", "requirements-dev.lock")
    image = pins("deploy/mlflow/requirements.txt")
    assert {"mlflow", "flask-wtf", "boto3", "pg8000"} <= image.keys()
    assert {name: version for name, version in image.items() if locked.get(name, version) != version} == {}
    assert SERVICES["mlflow"]["image"].endswith(f":{locked['mlflow']}")
    assert SERVICES["prefect"]["image"].startswith(f"prefecthq/prefect:{locked['prefect']}-")
    assert all(re.search(r":\d+\.\d+", service["image"]) for service in SERVICES.values())


def test_only_the_proxy_has_ports():
    """MLflow, Prefect and PostgreSQL are reached by the proxy alone, which has TLS."""
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert set(re.findall(r"reverse_proxy (\w+):\d+", (DEPLOY / "Caddyfile").read_text())) == {"mlflow", "prefect"}


def test_every_variable_is_in_the_example():
    """Each `${VARIABLE}` of the compose file is in .env.example, which has no secret; git ignores .env."""
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert named <= example.keys()
    assert {name for name in named if re.search("PASSWORD|SECRET|KEY|AUTH", name) and example[name]} == set()
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=ROOT)
    assert ignored.returncode in (0, 128)  # 128: not a repository


def test_secrets_are_made_once(tmp_path):
    """make-secrets.sh fills in every password, each another one, for its owner alone; run again it changes none."""
    for name in ("make-secrets.sh", ".env.example"):
        shutil.copy(DEPLOY / name, tmp_path)
    files = []
    for _ in range(2):
        subprocess.run(["sh", "make-secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
        files.append((tmp_path / ".env").read_text())
    assert files[0] == files[1]
    secrets = re.findall(r"^\w*(?:PASSWORD|SECRET_KEY|AUTH_STRING)=(?:team:)?([0-9a-f]{48})$", files[0], re.MULTILINE)
    assert len(set(secrets)) == 6
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0

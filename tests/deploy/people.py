"""People of a team, with users of MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.deploy.team_servers import Team


class Person:
    """A user of MLflow, with a folder in which commands are run."""

    def __init__(self, team: Team, name: str, folder: Path, address: str = "", **variables: str) -> None:
        added = team.run("add-user.sh", name, MLFLOW_ADDRESS=address or team.mlflow, **variables)
        assert added.returncode == 0, added.stderr
        words = [word for line in added.stdout.splitlines() for word in line.removeprefix("export ").split()]
        self.folder, self.login = folder, dict(word.split("=", 1) for word in words)
        own = {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.environment = team.environment | own | self.login | variables

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        """Return what `python command` prints."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr + done.stdout

    def darkroom(self, *command: str, code: int = 0, **environment: str) -> str:
        return self.run("-m", "darkroom", *command, code=code, **environment)


def run_pipeline(person: Person) -> None:
    person.run("-m", "dvc", "repro", "-q")
    person.darkroom("sync")

"""The wheel, in an environment where nothing of the repository is: a project of its own runs, and follows an upgrade."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from darkroom.config import package_files
from tests.conftest import ROOT

pytestmark = pytest.mark.pipeline
TINY = (
    "backbones=[]", "augment.views=1", "augment.policy=none", "baseline.epochs=1", "baseline.width=4", "ingest.image_size=16",
    "diagnose.robustness_images=1", "diagnose.views=none",
)  # fmt: skip
STAGES = ["names", "fetch@digits", "ingest", "augment", "baseline", "cross_validate", "evaluate", "register", "diagnose"]


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


class Installation:
    """An environment with the wheel, which finds all that Darkroom depends on in this one, and a project there."""

    def __init__(self, place: Path) -> None:
        self.dist, self.place, self.folder = place / "dist", place / "environment", place
        unset = (
            "PYTHONPATH",
            "VIRTUAL_ENV",
            "MLFLOW_TRACKING_URI",
            "DARKROOM_TRACKING",
            "DARKROOM_PIPELINE",
            "DVC_STAGE",
            "PREFECT_API_URL",
        )
        path = f"{self.place / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {key: value for key, value in os.environ.items() if key not in unset}
        self.environment |= {"PATH": path, "PREFECT_HOME": str(place / "prefect"), "DO_NOT_TRACK": "1"}
        self.uv("build", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(self.dist), str(ROOT))
        venv.create(self.place, with_pip=False)
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(self.place), "platbase": str(self.place)}))
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        self.wheel = next(self.dist.glob("*.whl"))
        self.uv("pip", "install", "--no-deps", "--python", str(self.place / "bin" / "python"), str(self.wheel))

    def uv(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "uv", "--quiet", "--offline", *arguments], check=True, cwd=self.folder, env=self.environment
        )

    def run(self, *command: str, code: int = 0) -> str:
        """Return what a command of the environment writes, in the project's folder."""
        program = [str(self.place / "bin" / command[0]), *command[1:]]
        done = subprocess.run(program, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == code, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installation:
    """Return an environment with the wheel, in which a project has run the digits once; `ran` has the stages."""
    installation = Installation(tmp_path_factory.mktemp("installed"))
    installation.run("darkroom", "new", "digits", "--set", *TINY)
    installation.folder /= "digits"
    installation.ran = stages_run(installation.run("python", "-m", "dvc", "repro"))
    return installation


def test_the_wheel_has_what_a_project_needs_and_no_more(installed):
    """It has two packages, whose names are Darkroom's own, the flows under theirs; the source distribution builds the same one."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
        flows = {name: wheel.read(name).decode() for name in names if name.startswith(f"{package_files.FLOWS}/")}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"darkroom", package_files.FLOWS}
    assert {Path(name).name for name in flows} == {path.name for path in (ROOT / "pipelines").glob("*.py")}
    assert not [name for name, text in flows.items() if re.search(r"\bpipelines( import |\.[a-z])", text)]
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert modules <= set(names)
    assert list(installed.dist.glob("*.tar.gz"))


def test_the_digits_run(installed):
    """In a new project `dvc repro` runs every stage, by the package that is installed, and its model becomes the champion."""
    assert installed.ran == STAGES
    place = installed.run("python", "-c", "import darkroom; print(darkroom.__file__)")
    assert Path(place.strip()).is_relative_to(installed.place)
    board = installed.run("darkroom", "leaderboard")
    assert "version 1 of the registered model darkroom" in board
    assert "baseline" in board


def test_nothing_is_left_to_run(installed):
    """A second `dvc repro` runs nothing, and neither does a flow, which is that of the installed package."""
    assert stages_run(installed.run("python", "-m", "dvc", "repro")) == []
    assert "0 of 8 stages ran" in installed.run("darkroom", "flow", "repro")


def test_an_upgrade_reruns_what_it_changes(installed):
    """Changed code is refused with the remedy; after it the stages of that code run, and no other one."""
    module = installed.packages / "darkroom" / "stages" / "cross_validate.py"
    module.write_text(module.read_text() + "# another version\n")
    for command in (["repro"], ["flow", "repro"]):
        assert "`darkroom update`" in installed.run("darkroom", *command, code=2)
    assert "run again, since their code has changed: cross_validate;" in installed.run("darkroom", "update")
    assert stages_run(installed.run("darkroom", "repro")) == ["cross_validate"]


@pytest.mark.parametrize(
    ("command", "words"),
    [(["recipe", "--list"], "photos"), (["course"], "Kernels"), (["study", "mlp", "--help"], "Settings of mlp, size quick")],
)
def test_recipes_studies_and_the_course_come_with_it(installed, command, words):
    """What the repository has in folders of its own is there in any project."""
    assert words in installed.run("darkroom", *command)

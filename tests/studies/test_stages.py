"""The studies as stages of a graph of their own, with the real DVC."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import NOT_SOURCES, ROOT
from tests.studies.conftest import SETTINGS, TINY, write_images

STAGE = "study@initialization"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose studies are tiny, with a git and a DVC repository."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns(*NOT_SOURCES))
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("dvc.lock", "results", "tmp", "cache"))
    for name in (
        "dvc.yaml",
        "params.yaml",
        ".dvcignore",
        ".gitignore",
        "backbones/README.md",
        "data/label_fixes.csv",
        "data/splits.csv",
        "data/weights/.gitignore",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    yaml, file = YAML(), tmp_path / "studies" / "params.yaml"
    content = yaml.load(file.read_text())
    content["machine"]["processes"] = 1
    content["size"] = "smoke"
    content["initialization"]["quick"]["lr"] = 0.5  # so that the text of the other size is another
    for item in TINY + SETTINGS["initialization"]:
        key, _, value = item.partition("=")
        content["initialization"]["smoke"][key] = YAML(typ="safe").load(value)
    with file.open("w") as out:
        yaml.dump(content, out)
    write_images(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    dvc(tmp_path, "init", "-q")
    return tmp_path


def dvc(place: Path, *words: str, code: int | None = 0) -> str:
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{place / 'src'}{os.pathsep}{place.parent / 'src'}",
        "DARKROOM_TRACKING": "off", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=300
    )
    assert code is None or done.returncode == code, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.mark.pipeline
def test_a_study_is_a_stage_of_its_own(project):
    """A study runs by its name and where a param or its code has changed; in the folder above DVC knows nothing of it."""
    studies = project / "studies"
    assert f"Running stage '{STAGE}'" in dvc(studies, "repro", STAGE)
    results = studies / "results" / "initialization" / "results.csv"
    first = results.read_bytes()
    (project / "src" / "darkroom" / "models" / "__pycache__").mkdir(exist_ok=True)
    (project / "src" / "darkroom" / "models" / "__pycache__" / "old.pyc").touch()
    assert f"Running stage '{STAGE}'" not in dvc(studies, "repro", STAGE)
    above = dvc(project, "status", "--json") + dvc(project, "checkout", "--allow-missing")
    assert "ingest" in above
    assert f"{project}/studies" not in above
    assert "study@" not in above
    file = studies / "params.yaml"
    text = file.read_text()
    assert "lr: 0.02" in text
    file.write_text(text.replace("lr: 0.02", "lr: 0.03", 1))
    assert f"Running stage '{STAGE}'" in dvc(studies, "repro", STAGE)
    assert results.read_bytes() != first
    file.write_text(text.replace("lr: 0.05", "lr: 0.06", 1))  # the other study's: DVC has what this one wrote
    dvc(studies, "repro", STAGE)
    assert results.read_bytes() == first
    code = project / "src" / "darkroom" / "studies" / "registry.py"
    code.write_text(code.read_text() + "\n")
    dvc(studies, "repro", "study_code")
    assert "results/study_code.sha256" in dvc(studies, "status", STAGE)

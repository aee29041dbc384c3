"""`make install`: what it asks the package registry for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

UV = '#!/bin/sh\necho "$@" >> uv.log\nfor file in "$@"; do case "$file" in *.lock) cat "$file" >> asked.lock;; esac; done\n'
CUDA = re.compile(r"^(torch|torchvision|triton|nvidia|cuda)\b.*", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with an environment whose `uv` notes what it is asked for, and installs nothing."""
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in (("uv", UV), ("python", "#!/bin/sh\n")):
        file = tmp_path / ".venv" / "bin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return tmp_path


def make(project: Path, *arguments: str) -> str:
    """Return what `make` prints."""
    done = subprocess.run(["make", *arguments], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(file: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", file.read_text(), re.MULTILINE))


def test_an_installation_is_the_lock_and_nothing_for_tests(project):
    """What runs is installed with its hashes; the linter and the libraries of tests are not."""
    make(project, "install")
    assert names(project / "asked.lock") == names(ROOT / "requirements.lock")
    assert not names(ROOT / "requirements.lock") & {"pytest", "ruff", "mypy", "playwright", "openvino"}
    assert "--torch-backend" not in (project / "uv.log").read_text()


def test_tests_bring_what_they_need(project):
    """`make lint` and `make test` install the other lock, which has none of the first one's packages, and does so once."""
    make(project, "install-dev")
    assert names(project / "asked.lock") == names(ROOT / "requirements.lock") | names(ROOT / "requirements-dev.lock")
    assert not names(ROOT / "requirements.lock") & names(ROOT / "requirements-dev.lock")
    for target in ("test", "test-fast", "docs-check", "lint"):
        assert "install-dev" in re.search(rf"^{target}: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert "Nothing to be done" in make(project, "install-dev")


def test_a_build_of_torch_without_cuda(project):
    """`make install TORCH=cpu` takes nothing of CUDA from the lock, the same versions of torch and torchvision from PyTorch's own
    index for that build, and all else with its hashes."""
    make(project, "install", "TORCH=cpu")
    cpu_lock = (project / "asked.lock").read_text()
    assert not CUDA.findall(cpu_lock)
    lock = (ROOT / "requirements.lock").read_text()
    left_out = {match.group(0).partition("==")[0] for match in CUDA.finditer(lock)}
    assert names(project / "asked.lock") | left_out == names(ROOT / "requirements.lock")
    (line,) = [line for line in (project / "uv.log").read_text().splitlines() if "--torch-backend cpu" in line]
    versions = dict(re.findall(r"^(torch|torchvision)==(\S+)", lock, re.MULTILINE))
    assert line.endswith(f"--torch-backend cpu torch=={versions['torch']} torchvision=={versions['torchvision']}")


def test_an_environment_keeps_its_build_of_torch(project):
    """Later targets use the build that was installed; another one is installed into a new environment."""
    make(project, "install", "TORCH=cpu")
    assert "Nothing to be done" in make(project, "install")
    assert "rm -rf .venv" in make(project, "--dry-run", "install", "TORCH=cu130")
    assert "--torch-backend cpu" in make(project, "--dry-run", "--assume-new", "requirements.lock", "install")


def test_a_mac_with_an_intel_processor_is_refused(project, tmp_path):
    """Where PyTorch has no packages, macOS on Intel, the installation ends with a sentence before anything is downloaded."""
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import platform\nplatform.system = lambda: 'Darwin'\nplatform.machine = lambda: 'x86_64'\n"
    )
    python = shim / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shim} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(["make", "install", f"PYTHON={python}"], cwd=project, capture_output=True, text=True)
    assert done.returncode
    assert "no packages for macOS on Intel" in done.stderr
    assert not (project / "uv.log").exists()

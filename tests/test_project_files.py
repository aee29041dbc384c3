"""What a host and contributors read: the version in one place, the changelog, the citation, hooks and issue forms."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import darkroom
from darkroom.config.yaml_files import read_yaml
from tests.conftest import ROOT
from tests.skeletons import git

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_version_is_one():
    """pyproject.toml takes the version from the package; the changelog begins with it, and the citation names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "darkroom.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", darkroom.__version__)
    newest = re.search(
        r"^## (\S+) — (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest
    assert newest[1] == darkroom.__version__
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == darkroom.__version__
    assert ("date-released" in citation) == (newest[2] != "unreleased")
    assert citation["license"] == project["project"]["license"]


@pytest.mark.slow
def test_a_wheel_between_releases_has_a_version_of_its_own(tmp_path, monkeypatch):
    """Before the tag of the version it is a development version, later a local one, and in the tagged commit the version itself."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "src/darkroom/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def built() -> str:
        subprocess.run([sys.executable, "setup.py", "--quiet", "egg_info"], check=True, capture_output=True)
        text = Path("src/darkroom.egg-info/PKG-INFO").read_text(encoding="utf-8")
        return text.partition("\nVersion: ")[2].partition("\n")[0]

    version = darkroom.__version__
    assert built() == version  # a source distribution has no repository
    for arguments, expected in (
        (["commit", "-qm", "one", "--allow-empty"], f"{version}.dev1"),
        (["commit", "-qm", "two", "--allow-empty"], f"{version}.dev2"),
        (["tag", f"v{version}"], version),
        (["commit", "-qm", "three", "--allow-empty"], f"{version}+1"),
    ):
        if not (tmp_path / ".git").exists():
            git("init", "-q")
        git(*arguments)
        assert built() == expected


def test_every_section_of_the_changelog_is_a_version():
    """Sections of the changelog are versions with a date, the newest first; the first one alone may be unreleased."""
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    versions = [tuple(map(int, title.split(" — ")[0].split("."))) for title in titles]
    assert versions == sorted(versions, reverse=True)
    assert all(re.search(r" — \d{4}-\d\d-\d\d$", title) for title in titles[1:])


def test_hooks_work_offline():
    """The hooks of pre-commit are programs of the environment: nothing is fetched."""
    for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith(".venv/bin/")
            assert re.compile(hook.get("files", ""))
            for path in re.findall(r"tests/\w+\.py", hook["entry"]):
                assert (ROOT / path).is_file()


@pytest.mark.parametrize("form", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_issue_forms_are_forms(form):
    """A form has a name, a description, and fields of known types with ids of their own and a label."""
    content = read_yaml(form)
    assert content["name"]
    assert content["description"]
    ids = [field["id"] for field in content["body"]]
    assert len(set(ids)) == len(ids) > 0
    for field in content["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert field["attributes"]["label"]


def test_contributors_know_the_verbs():
    """CONTRIBUTING.md has the four verbs, which are targets of the Makefile, and a row for each page of docs/contributing."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    verbs = re.findall(r"^\| `make (\w+)` \|", text, re.MULTILINE)
    assert verbs == ["install", "lint", "test", "docs"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(verbs) <= set(targets)
    pages = {path.name for path in (ROOT / "docs" / "contributing").glob("*.md")}
    assert set(re.findall(r"\(docs/contributing/([\w-]+\.md)\)", text)) == pages


def test_the_repository_has_no_data():
    """No tracked file is larger than 1 MiB or lies in a folder of results, wherever a command was run: photographs stay out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy has no git repository")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert len(files) > 500
    assert [path for path in files if path.is_file() and path.stat().st_size > 2**20] == []
    assert [path for path in files if {".darkroom", "mlruns", "results"} & set(path.relative_to(ROOT).parts)] == []

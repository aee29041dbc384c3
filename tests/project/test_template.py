"""The files of a project are made of those of the repository, and nothing is written twice."""

from __future__ import annotations

import re

import pytest
import yaml

from darkroom.config import package_files
from darkroom.config.params import parse_yaml, read_yaml
from darkroom.project import template
from tests.conftest import ROOT

FILES = template.files("flowers")


def test_the_graph_is_that_of_the_repository():
    """Stages, commands, params, outputs and inputs are the same, but for the code: a digest in the place of source files."""
    own, project = read_yaml(ROOT / "dvc.yaml")["stages"], parse_yaml(FILES["dvc.yaml"], "dvc.yaml")["stages"]
    assert list(project) == list(own)
    for name, stage in project.items():
        (code,) = [entry for entry in stage["params"] if isinstance(entry, dict)]
        assert code == {"code.yaml": [f"stages.{name}"]}
        stage["params"].remove(code)
        expected = {**own[name], "deps": [dep for dep in own[name]["deps"] if not dep.startswith("src/")]}
        assert stage == {key: value for key, value in expected.items() if value}, name


def test_nothing_refers_to_the_repository():
    """No file of a project names a source file, an environment or the flows of the repository."""
    for path, text in FILES.items():
        if path != ".gitignore":
            assert not re.search(r"src/|\.venv/|\bpipelines[/.]|\bmake ", text), path


def test_digests_are_of_every_stage():
    """Each stage has a digest, which its graph names, and each file that follows a newer Darkroom its own."""
    content = yaml.safe_load(FILES["code.yaml"])
    assert list(content["stages"]) == list(parse_yaml(FILES["dvc.yaml"], "dvc.yaml")["stages"])
    assert content["files"] == {path: template.file_digest(FILES[path]) for path in template.FOLLOWED}


def test_deployments_are_of_flows_of_the_package():
    """Every flow of the repository but the one of its studies has its deployment, with the same parameters and schedules."""
    own, project = (
        read["deployments"] for read in (read_yaml(ROOT / "prefect.yaml"), parse_yaml(FILES["prefect.yaml"], "prefect.yaml"))
    )
    expected = []
    for deployment in own:
        module, flow = deployment["entrypoint"].removesuffix(".py").removeprefix("pipelines/").split(".py:")
        if flow != "study":
            expected.append({**deployment, "entrypoint": f"{package_files.FLOWS}.{module}.{flow}"})
    assert project == expected
    assert len(project) == len(own) - 1


def test_all_else_is_copied():
    """params.yaml and what has no graph in it are the bytes of the repository."""
    for path in template.COPIED:
        assert FILES[path].encode() == (ROOT / path).read_bytes(), path


@pytest.mark.parametrize("text", ["a\n", "a", "\n a \n\n"])
def test_white_space_at_the_ends_does_not_count(text):
    """What git prints of a file lacks the white space at its ends; it is known again."""
    assert template.file_digest(text) == template.file_digest("a")

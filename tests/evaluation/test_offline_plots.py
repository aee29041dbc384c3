"""`dvc plots show` and `dvc plots diff` write a page that needs no network."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys

import pytest
import yaml

from darkroom.config.params import read_yaml
from darkroom.evaluation.report import plots
from tests.browser import chromium, faults, opened  # noqa: F401
from tests.conftest import ROOT
from tests.evaluation.example_report import evaluation

pytestmark = [pytest.mark.slow, pytest.mark.pipeline, pytest.mark.usefixtures("chromium")]


def dvc(folder, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """Return a DVC project with the repository's configuration, its declared plots, and their tables."""
    dvc(tmp_path, "init", "--no-scm", "-q")
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc/config")
    shutil.copytree(ROOT / ".dvc/plots", tmp_path / ".dvc/plots")
    dvc(tmp_path, "config", "core.no_scm", "true")
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    declared = stages["evaluate"]["plots"] + stages["diagnose"]["plots"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": declared}))
    example = evaluation()
    (tmp_path / "reports/plots/curves").mkdir(parents=True)
    tables = plots.of_best("baseline", example.details, example.probabilities["baseline"].argmax(1), example.labels)
    tables["robustness.csv"] = plots.robustness(example.diagnostics)
    history = [list(example.histories["baseline"][0]), *(list(row.values()) for row in example.histories["baseline"])]
    for name, rows in {**{k: [v[0], *v[1]] for k, v in tables.items()}, "curves/baseline.csv": history}.items():
        with (tmp_path / "reports/plots" / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return example, tmp_path


def test_the_plots_are_drawn_without_a_network(project):
    """All plots of dvc.yaml are drawn, by a page that requests nothing and logs no error; the counts are those of the tables."""
    example, folder = project
    dvc(folder, "plots", "show", "-o", "shown")
    with opened(folder / "shown/index.html") as page:  # asserts that nothing else is requested
        assert page.locator("figure").count() == 5
        assert page.locator("polyline").count() == 3
        assert page.locator("rect").count() == 3  # a bar for each class
        counts = page.locator(".matrix tbody td").all_inner_texts()
        expected = example.details.models["baseline"].confusion_matrix
        assert [int(count or 0) for count in counts] == [count for row in expected for count in row]
        assert "does not draw" not in page.inner_text("main")
        assert faults(page) == []
    with opened(folder / "shown/index.html", dark=True, width=390) as page:
        assert faults(page) == []

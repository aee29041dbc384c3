"""Images that a network learns in a few steps, and studies that take seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom import cli
from darkroom.config import study_params
from darkroom.config.study_settings import Timed
from darkroom.studies import learning_rate, plots, trainer
from darkroom.studies.samples import Sample
from darkroom.tracking import records
from tests.conftest import ROOT

TINY = ["data=images.npz", "images=64", "seeds=3", "batch_size=32", "eval_points=1", "image_size=8", "held_out=0.5"]
TIMED = ["epochs=1", "warmup_epochs=0"]
SETTINGS = {  # of studies whose size smoke is not tiny enough
    "initialization": [*TIMED, "hidden=[16]", "schemes=[kaiming,zeros,lsuv]", "networks=[mlp,cnn]"],
    "architecture": ["budget=0.05", "architectures={mlp: {hidden: [8]}, resnet8: {width: 4}}"],
    "depth": [*TIMED, "depths=[8,20]", "width=4"],
    "mlp": [*TIMED, "options={hidden: [8]}"],
    "cnn": [*TIMED, "options={widths: [4], hidden: 8}"],
    "nin": [*TIMED],
    "features": [
        *TIMED, "options={widths: [4], hidden: 8}",
        "comparisons={few: {hog: {architecture: hog, options: {cell: 2}}, cnn: {}}}",
    ],
    "bottleneck": [*TIMED, "width=4"],
    "inception": [*TIMED, "width=0.05"],
    "separable": [*TIMED, "widths=[4]"],
    "inverted": [*TIMED, "width=8"],
    "scaling": [*TIMED, "image_size=16", "base_size=8", "architecture=residual", "options={blocks: 1, width: 4}", "factors=[4]"],
    "augmentation": [*TIMED, "architecture=mlp", "options={hidden: [8]}", "policies=[none,light]", "policy=light", "views=[1,0]"],
    "transfer": [
        "architecture=compact", "options={width: 4}", "scratch=null", "steps=2", "few_images=32", "train_sizes=[16,32]",
        "blocks=[1]", "pretrain_images=32", "pretrain_steps=2", "sources=[rotations]",
    ],
    "optimizer": [
        *TIMED, "architecture=mlp", "options={hidden: [8]}", "optimizers=[sgd,adam]", "batch_sizes=[16,32]",
        "schedules=[constant,cosine]",
    ],
    "practice": [*TIMED, "width=4", "ensemble_size=2", "policy=light"],
    "tune": [
        "epochs=2", "architecture=mlp", "options={hidden: [8]}", "budget=3", "batch_size=16",
        "space={lr: {low: 0.001, high: 0.1, log: true}, optimizer: {choices: [adamw, sgd]}}",
    ],
}  # fmt: skip


@cache
def studies_params() -> study_params.Studies:
    """Return the params of the studies as they are in the repository."""
    return study_params.read(ROOT / "studies" / "params.yaml")


def run_study(name: str, *settings: str, options: tuple[str, ...] = ()) -> Path:
    """Run a study at a tiny size in the working folder, and return the folder of its results."""
    own = SETTINGS.get(name, TIMED if issubclass(study_params.model_of(name), Timed) else [])
    assert cli.main(["study", name, "--size", "smoke", *options, "--set", *TINY, *own, *settings]) == 0
    return Path("studies/results") / name


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_records(project: Path) -> list[list[dict[str, Any]]]:
    """Return the lines of each record that a study wrote."""
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in project.glob("records/*/record.jsonl")]


def split_records(records: list[list[dict[str, Any]]]) -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
    """Return the records of studies, and those of their members."""
    members = [record for record in records if "darkroom.member_of" in record[0]["tags"]]
    return [record for record in records if record not in members], members


def bright_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 8, 8) of three classes, each a bright row in noise, and their labels."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 60, (count, 8, 8), np.uint8)
    images[np.arange(count), 2 * labels + 1] += 150
    return images, labels


def write_images(folder: Path) -> None:
    """Write the images of tiny studies: `images.npz` takes no time to read."""
    images, labels = bright_rows(128)
    np.savez(folder / "images.npz", images=images, labels=labels)


def write_project(folder: Path) -> None:
    """Write the images and the params of the studies, for one process."""
    (folder / "studies").mkdir()
    text = (ROOT / "studies" / "params.yaml").read_text(encoding="utf-8")
    (folder / "studies" / "params.yaml").write_text(text.replace("processes: 2", "processes: 1"), encoding="utf-8")
    write_images(folder)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make small what no setting of a study does: range tests, timings, pictures."""
    patch.setattr(learning_rate, "STEPS", 12)
    patch.setattr(trainer, "LATENCY_RUNS", 2)
    patch.setattr(plots, "LAYOUT", None)


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Work in a folder, and record nothing."""
    patch.chdir(folder)
    patch.setenv("DARKROOM_TRACKING", "off")
    shrink(patch)


def enter_recorded(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Work in a folder, and keep the records of runs there."""
    patch.chdir(folder)
    for name in ("DARKROOM_TRACKING", "DARKROOM_PIPELINE", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
        patch.delenv(name, raising=False)
    patch.setattr(records, "RECORDS", folder / "records")
    patch.setattr(records, "start_uploader", lambda: None)
    shrink(patch)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the params of the studies, in which the test works."""
    write_project(tmp_path)
    enter(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def results_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the results of a tiny study, to be read only; each runs once.

    Beside the results its project has `printed.json` and the records of the runs.
    """

    @cache
    def results(name: str) -> Path:
        project = tmp_path_factory.mktemp(name)
        write_project(project)
        with pytest.MonkeyPatch.context() as patch, (project / "printed.json").open("w") as printed, redirect_stdout(printed):
            enter_recorded(project, patch)
            return project / run_study(name, options=("--json",))

    return results


@pytest.fixture
def copy_of(results_of: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that returns a copy of the project of a tiny study that has run."""
    return lambda name: shutil.copytree(results_of(name).parents[2], tmp_path / name)


@pytest.fixture
def sample() -> Sample:
    """Return 96 training and 48 held-out images (1, 8, 8) of three classes, each a bright row in noise."""
    images, labels = bright_rows(144)
    images = images[:, None]
    return Sample(images[:96], labels[:96], images[96:], labels[96:], 3, "synthetic")

"""A project folder: its data, its results and its models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple

from darkroom.config import dvc_graph, params
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import numpy as np
    import pandas as pd

    from darkroom.api import leaderboard as leaderboards
    from darkroom.api import model as models
    from darkroom.api import model_resolver
    from darkroom.data import arrays
    from darkroom.evaluation import diagnostics_file, leaderboard, metrics_io
    from darkroom.tracking import registry

REPORTS, INGESTED, EMBEDDED, MODELS = Path("reports"), Path("data/ingested"), Path("data/embedded"), Path("models")


class Embeddings(NamedTuple):
    """What a frozen backbone makes of the images: `train` (K, N, D) float32, K views of N images, and `val` (M, D)."""

    train: np.ndarray
    train_labels: np.ndarray  # (N,) int64, places in `classes`
    val: np.ndarray
    val_labels: np.ndarray  # (M,) int64
    classes: tuple[str, ...]


class Project:
    """A project folder. What it returns is read when it is asked for: after `dvc repro` ask again.

    Its paths are relative, so the working folder of the process is the project while a method runs: do not call methods
    of two projects in two threads at once. Every error is a DarkroomError, whose text ends with the remedy.
    """

    def __init__(self, folder: str | os.PathLike[str] = ".") -> None:
        """Raises WorkspaceError if the folder has no params.yaml."""
        self.folder = Path(folder).expanduser().resolve()
        if not self.folder.joinpath("params.yaml").is_file():
            raise WorkspaceError(f"{self.folder} is no project: it has no params.yaml", "name the folder of a project")

    def __repr__(self) -> str:
        return f"<darkroom project {self.folder}>"

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with chdir(self.folder):
            yield

    @property
    def params(self) -> params.Params:
        """The values of params.yaml, checked. Raises ParamsError that lists every mistake."""
        with self._inside():
            return params.read()

    @property
    def manifest(self) -> pd.DataFrame:
        """A row per file of the source: path, label, split, hashes, status and reason (docs/data.md)."""
        return self._table(INGESTED / "manifest.parquet", "ingest")

    @property
    def predictions(self) -> pd.DataFrame:
        """A row per model and image of validation and test, with the probability of each class."""
        return self._table(REPORTS / "predictions.parquet", "evaluate")

    @property
    def metrics(self) -> metrics_io.Metrics:
        """The metrics of every model with their intervals, and which one was selected and why."""
        with self._inside():
            return metrics_io.read(REPORTS / metrics_io.METRICS, metrics_io.Metrics)

    @property
    def diagnostics(self) -> diagnostics_file.Diagnostics | None:
        """What the stage `diagnose` has found about the best model: corruptions, slices, mistakes, labels, the learning curve.

        None where it has not run since the last evaluation.
        """
        path = REPORTS / diagnostics_file.DIAGNOSTICS
        with self._inside():
            return metrics_io.read(path, diagnostics_file.Diagnostics) if path.exists() and self.is_diagnosed else None

    @property
    def is_diagnosed(self) -> bool:
        """Whether `diagnose` has read what the last `evaluate` wrote, as far as dvc.lock knows."""
        metrics = (REPORTS / metrics_io.METRICS).as_posix()
        with self._inside():
            locked = dvc_graph.read_lock()
        evaluated = locked["evaluate"].outs.get(metrics) if "evaluate" in locked else None
        return evaluated == (locked["diagnose"].deps.get(metrics, evaluated) if "diagnose" in locked else evaluated)

    def leaderboard(self) -> leaderboards.Leaderboard:
        """Return the last evaluation, best test accuracy first. Raises WorkspaceError if nothing is evaluated yet."""
        with self._inside():
            return leaderboards.Leaderboard(leaderboard.read(REPORTS / "leaderboard.csv"), self.metrics)

    def model(self, name: str | int = "champion", engine: str | None = None) -> models.Model:
        """Return a model: champion, challenger, int8, a version number, or one of this project, such as baseline or transfer/vgg16.

        With the engine `int8`, as with this alias, a version predicts by its program of 8-bit integers, else by `float32`. Heat
        maps and embeddings stay float32. Raises WorkspaceError if there is no such model or program, or if files are damaged.
        """
        with self._inside():
            folder = MODELS / str(name)
            address = str(folder) if folder.joinpath("model.json").is_file() else str(name)
            return models.Model(*model_resolver.load_on_device(address, engine or model_resolver.default_engine(address)))

    @property
    def models(self) -> list[str]:
        """The names of the trained models, as `model` takes them."""
        with self._inside():
            return sorted(path.parent.relative_to(MODELS).as_posix() for path in MODELS.rglob("model.json"))

    @property
    def versions(self) -> pd.DataFrame:
        """A row per version of the registered model: model, aliases, verdict, checks."""
        with self._inside():
            versions = registry.versions(params.read().register_.name)
        columns = ("version", "model", "aliases", "verdict", "checks")
        return pd.DataFrame([{name: getattr(version, name) for name in columns} for version in versions], columns=list(columns))

    def embeddings(self, backbone: str) -> Embeddings:
        """Return the embeddings of a frozen backbone, memory-mapped. Raises WorkspaceError if there are none."""
        with self._inside():
            folder = EMBEDDED / backbone
            if not folder.is_dir():
                there = sorted(path.parent.relative_to(EMBEDDED).as_posix() for path in EMBEDDED.rglob("train.npy"))
                remedy = f"choose from {', '.join(there)}" if there else "run `dvc repro`"
                raise WorkspaceError(f"there are no embeddings of {backbone}", remedy)
            train, train_labels, val, val_labels = (arrays.load(folder / f"{name}.npy") for name in Embeddings._fields[:4])
            return Embeddings(train, train_labels, val, val_labels, arrays.load_classes(INGESTED / "classes.json"))

    def _table(self, path: Path, stage: str) -> pd.DataFrame:
        with self._inside():
            try:
                return pd.read_parquet(path)
            except FileNotFoundError as error:
                raise WorkspaceError(f"{path} does not exist", f"run `dvc repro {stage}`") from error
            except (OSError, ValueError) as error:
                raise WorkspaceError(f"{path} cannot be read: {error}", dvc_graph.how_to_restore(path)) from error

    def _repr_html_(self) -> str:
        """Return the folder, and the leaderboard where there is one."""
        try:
            results = self.leaderboard()._repr_html_()
        except WorkspaceError as error:
            results = f"<p>{escape(error.problem)}: {escape(error.remedy)}</p>"
        return f"<p><b>{escape(str(self.folder))}</b></p>{results}"


def open(folder: str | os.PathLike[str] = ".") -> Project:
    """Return the project in a folder. Raises WorkspaceError if there is none."""
    return Project(folder)

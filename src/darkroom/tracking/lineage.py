"""Lineage: from an image to the runs and models that used it, and back.

Every run belongs to a pipeline, and every pipeline used the images of one ingest run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.tracking.entities import SHA, Run, Version

TRAINING = ("baseline", "transfer", "finetune")  # stages that train on train and validate on val
SHORTEST = 8  # hexadecimal digits of a hash or id that identify it


@dataclass(frozen=True)
class Sighting:
    """An image in one ingest run, with the pipelines, training runs and versions that used its data."""

    ingest: Run
    rows: list[Row]
    pipelines: list[Run] = field(repr=False)
    training: list[Run] = field(repr=False)
    versions: list[Version] = field(repr=False)

    @property
    def splits(self) -> list[str]:
        """train, val or test; the status of images that were not accepted."""
        return sorted({row.split if row.status == "accepted" else row.status for row in self.rows})


class Lineage:
    """All runs and versions in MLflow; `manifest` returns the path of an ingest run's manifest, or None."""

    def __init__(self, runs: Iterable[Run], versions: Iterable[Version], manifest: Callable[[str], Path | None]) -> None:
        self.runs = {run.id: run for run in runs}
        self.versions, self.manifest = list(versions), manifest
        self._members: dict[str, list[Run]] = {}
        for run in self.runs.values():
            self._members.setdefault(run.pipeline, []).append(run)
        self._ingest: dict[str, Run | None] = {}

    def members(self, pipeline: str) -> list[Run]:
        """Return the runs of a pipeline: its own first, then those of its stages by their start."""
        members = self._members.get(pipeline, []) if pipeline else []
        return sorted(members, key=lambda run: (run.stage != "pipeline", run.started))

    def parent(self, run: Run) -> Run | None:
        """Return the run of the pipeline that a run belongs to."""
        return next((item for item in self.members(run.pipeline) if item.stage == "pipeline"), None)

    def ingest(self, run: Run) -> Run | None:
        """Return the ingest run whose images a run used."""
        if run.pipeline not in self._ingest:
            members = self.members(run.pipeline)
            ingest = next((item for item in members if item.stage == "ingest" and item.status == "FINISHED"), None)
            self._ingest[run.pipeline] = self.runs.get(ingest.reused) if ingest and ingest.reused else ingest
        return self._ingest[run.pipeline]

    def maker(self, version: Version) -> Run | None:
        """Return the run that trained a version, the newest one where several made the same checkpoint."""
        makers = [run for run in self.runs.values() if version.sha256 and run.tags.get(SHA) == version.sha256]
        makers = [run for run in makers if run.stage.partition("@")[0] in TRAINING]
        return max(makers, key=lambda run: run.started, default=None)

    def reusing(self, run: Run) -> list[Run]:
        """Return the pipelines that reused the outputs of a run."""
        parents = [self.parent(item) for item in self.runs.values() if item.reused == run.id]
        return [item for item in parents if item is not None]

    def is_tested(self, run: Run) -> bool:
        """Whether an evaluation has ended in the pipeline that trained a model, or in one that reused it."""
        pipelines = {run.pipeline, *(item.pipeline for item in self.reusing(run))}
        return any(
            item.stage == "evaluate" and (item.reused or item.status == "FINISHED")
            for pipeline in pipelines
            for item in self.members(pipeline)
        )

    def images(self, ingest: Run) -> list[Row] | None:
        """Return the manifest of an ingest run, a row per source file; None where MLflow does not have it."""
        path = self.manifest(ingest.id)
        return None if path is None else manifest.read(path)

    def without_manifest(self) -> list[Run]:
        """Return the ingest runs whose images are not known, since MLflow does not have their manifest."""
        return [run for run in self._ingests() if self.images(run) is None]

    def _ingests(self) -> list[Run]:
        """Return the ingest runs that have read images to their end, oldest first."""
        ordered = sorted(self.runs.values(), key=lambda run: run.started)
        return [run for run in ordered if run.stage == "ingest" and not run.reused and run.status == "FINISHED"]

    def sightings(self, hashes: Iterable[str]) -> list[Sighting]:
        """Return one sighting of an image per ingest run that read it, oldest first.

        `hashes` are beginnings of its sha256 or its pixel hash.
        """
        prefixes = tuple(hashes)
        by_ingest: dict[str, list[Run]] = {}
        for run in self.runs.values():
            if ingest := self.ingest(run):
                by_ingest.setdefault(ingest.id, []).append(run)
        makers = [(version, self.maker(version)) for version in self.versions]
        sightings = []
        for ingest in self._ingests():
            rows = [row for row in self.images(ingest) or [] if _matches(row, prefixes)]
            if rows:
                runs = by_ingest.get(ingest.id, [])
                training = [run for run in runs if _has_trained(run)]
                ids = {run.id for run in training}
                versions = [version for version, maker in makers if maker and maker.id in ids]
                sightings.append(Sighting(ingest, rows, [run for run in runs if run.stage == "pipeline"], training, versions))
        return sightings


def _has_trained(run: Run) -> bool:
    return run.stage.partition("@")[0] in TRAINING and not run.reused and run.status == "FINISHED"


def _matches(row: Row, prefixes: tuple[str, ...]) -> bool:
    return any((digest or "").startswith(prefixes) for digest in (row.sha256, row.pixel_hash))

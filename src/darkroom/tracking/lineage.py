"""From an image to the runs and models that saw it, and back: every run belongs to a pipeline, and that to one ingest run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.tracking import registry
from darkroom.tracking.queries import Run
from darkroom.tracking.registry import Version

LEARN = ("baseline", "transfer", "finetune")  # stages that train on train and keep what is best on val
COLUMNS = ("path", "label", "split", "status", "reason", "sha256", "pixel_hash")
SHORTEST = 8  # hexadecimal digits by which a hash is known
Row = dict[str, str]


@dataclass(frozen=True)
class Sighting:
    """What one ingest run made of an image, and the runs that then learned from the same data."""

    ingest: Run
    rows: list[Row]
    pipelines: list[Run] = field(repr=False)
    learned: list[Run] = field(repr=False)
    versions: list[Version] = field(repr=False)

    @property
    def splits(self) -> list[str]:
        """train, val, test, or what became of it instead."""
        return sorted({row["split"] if row["status"] == "accepted" else row["status"] for row in self.rows})


class Memory:
    """Every run and version that MLflow knows, and how to get the manifest of an ingest run."""

    def __init__(self, runs: Iterable[Run], versions: Iterable[Version], manifest: Callable[[str], Path | None]) -> None:
        self.runs = {run.id: run for run in runs}
        self.versions, self.manifest = list(versions), manifest
        self._members: dict[str, list[Run]] = {}
        for run in self.runs.values():
            self._members.setdefault(run.pipeline, []).append(run)
        self._ingest: dict[str, Run | None] = {}

    def members(self, pipeline: str) -> list[Run]:
        """Return the runs of a pipeline, its own first, then its stages' in the order in which they started."""
        mine = self._members.get(pipeline, []) if pipeline else []
        return sorted(mine, key=lambda run: (run.stage != "pipeline", run.started))

    def parent(self, run: Run) -> Run | None:
        """Return the pipeline's own run."""
        return next((item for item in self.members(run.pipeline) if item.stage == "pipeline"), None)

    def ingest(self, run: Run) -> Run | None:
        """Return the ingest run whose data this run has seen."""
        if run.pipeline not in self._ingest:
            made = [item for item in self.members(run.pipeline) if item.stage == "ingest" and item.status == "FINISHED"]
            found = made[0] if made else None
            self._ingest[run.pipeline] = self.runs.get(found.reused) if found and found.reused else found
        return self._ingest[run.pipeline]

    def maker(self, version: Version) -> Run | None:
        """Return the run that trained a version, the newest where the same bytes were made several times."""
        made = [run for run in self.runs.values() if version.sha256 and run.tags.get(registry.SHA) == version.sha256]
        made = [run for run in made if run.stage.partition("@")[0] in LEARN]
        return max(made, key=lambda run: run.started, default=None)

    def reusing(self, run: Run) -> list[Run]:
        """Return the pipelines that found what this run made up to date."""
        found = [self.parent(item) for item in self.runs.values() if item.reused == run.id]
        return [item for item in found if item is not None]

    def images(self, ingest: Run) -> list[Row] | None:
        """Return every source file that an ingest run met, with what became of it; None where its manifest is not kept."""
        import pyarrow.parquet as pq

        path = self.manifest(ingest.id)
        return None if path is None else pq.ParquetFile(path).read(list(COLUMNS)).to_pylist()

    def sightings(self, hashes: Iterable[str]) -> list[Sighting]:
        """Return what became of an image in every ingest run that met it, oldest first.

        `hashes` are any of its sha256 and pixel hash, or the beginning of one.
        """
        wanted = tuple(hashes)
        found = []
        by_ingest: dict[str, list[Run]] = {}
        for run in self.runs.values():
            ingest = self.ingest(run)
            if ingest:
                by_ingest.setdefault(ingest.id, []).append(run)
        makers = [(version, self.maker(version)) for version in self.versions]
        for ingest in sorted(self.runs.values(), key=lambda run: run.started):
            if ingest.stage != "ingest" or ingest.reused or ingest.status != "FINISHED":
                continue
            rows = [row for row in self.images(ingest) or [] if any(_known_by(row, each) for each in wanted)]
            if rows:
                pipelines = [run for run in by_ingest.get(ingest.id, []) if run.stage == "pipeline"]
                learned = [run for run in by_ingest.get(ingest.id, []) if _has_learned(run)]
                known = {run.id for run in learned}
                versions = [version for version, maker in makers if maker and maker.id in known]
                found.append(Sighting(ingest, rows, pipelines, learned, versions))
        return found


def _has_learned(run: Run) -> bool:
    return run.stage.partition("@")[0] in LEARN and not run.reused and run.status == "FINISHED"


def _known_by(row: Row, known: str) -> bool:
    return any((row[key] or "").startswith(known) for key in ("sha256", "pixel_hash"))

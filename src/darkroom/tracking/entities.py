"""Runs, versions and promotions as plain values, with the names under which MLflow keeps them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum

KEY, STAGE, PIPELINE = "darkroom.key", "darkroom.stage", "darkroom.pipeline"  # tags of runs
ENVIRONMENT = "darkroom.environment."  # begins the tags with Python, libraries and processor
OUTPUTS, REUSED, REUSED_OUTPUTS = "darkroom.outputs_sha256", "darkroom.reused", "darkroom.reused_outputs_sha256"
MEMBER_OF = "darkroom.member_of"  # tag of a run below that of a study: the key of the study's record
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # MLflow's own tags
SHA, MODEL = "darkroom.checkpoint_sha256", "darkroom.model"  # tags of runs, logged models and versions
VERDICT, DATA = "darkroom.verdict", "darkroom.data"  # tags of versions
PROJECT = "darkroom.project"  # tag of versions: the folder that has registered them
FAILED, PROMOTION = "darkroom.failed_checks", "darkroom.promotion"  # tags: names of checks, and a sentence about all
PASSED, NOT_BETTER, VETOED = "passed", "not better", "vetoed"  # values of VERDICT
INT8, ACCEPTED, REFUSED = "darkroom.int8", "accepted", "refused"  # tag of versions with a program of 8-bit integers, or without
NONE = "none"  # value of FAILED where no check failed
CHALLENGER, CHAMPION = "challenger", "champion"  # aliases of versions, and of the newest one with a program of 8-bit integers
INT8_ALIAS = "int8"
PROMOTE, ROLLBACK = "promote", "rollback"  # the commands of a person, in the ledger
RESTORED = "sync --restore"  # in the ledger: what reports/promotion.json says of a champion, after the database was lost
# the folders that `register` packages with a checkpoint
EXPORTED = "exported"  # the programs that predict where the model is served
EVALUATION = "evaluation"  # predictions, and the images that the model was trained and chosen on
REFERENCE = "reference.npz"  # in EVALUATION: its outputs on held-out images, for drift tests
INT8_VERDICT = "int8.json"  # in EVALUATION: what `register` found of the program of 8-bit integers
CHECK = "check"  # image files with the checkpoint's predictions, to compare the package with


class Status(StrEnum):
    """The status of a run."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True)
class Run:
    """A run of a stage or of a pipeline; `started` is in seconds since 1970."""

    id: str
    name: str
    status: str
    started: float
    params: dict[str, str] = field(default_factory=dict, repr=False)
    metrics: dict[str, float] = field(default_factory=dict, repr=False)
    tags: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """Its name and when it started."""
        return f"{self.name}, {local_time(self.started)}"

    @property
    def stage(self) -> str:
        """`transfer@vgg16`, or `pipeline`."""
        return self.tags.get(STAGE, "")

    @property
    def pipeline(self) -> str:
        """The key that the runs of one pipeline share."""
        return self.tags.get(PIPELINE, "")

    @property
    def outputs(self) -> str:
        """The digest of the stage's outputs, written or up to date; empty where it is not known."""
        return self.tags.get(OUTPUTS) or self.tags.get(REUSED_OUTPUTS, "")

    @property
    def reused(self) -> str:
        """The id of the run that made the outputs of a stage that was up to date; else empty."""
        return self.tags.get(REUSED, "")


@dataclass(frozen=True)
class Version:
    """A version of the registered model.

    `model` is Darkroom's name of it, `created` whether `register` has just created it, `created_at` is in seconds
    since 1970.
    """

    version: str
    model: str = ""
    sha256: str = ""
    created: bool = False
    created_at: float = 0.0
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The result of the checks: passed, not better or vetoed; empty where they did not run."""
        return self.tags.get(VERDICT, "")

    @property
    def checks(self) -> str:
        """The result of the checks in words, with the names of those that failed."""
        failed = self.tags.get(FAILED, NONE)
        return f"{self.verdict or 'not checked'}{f' ({failed})' if failed != NONE else ''}"


@dataclass(frozen=True)
class Promotion:
    """A line of the ledger; `time` is in seconds since 1970, `by` is the command.

    `overridden` has the checks whose veto a person overrode.
    """

    time: float
    version: str
    previous: str
    why: str
    by: str = "register"
    overridden: str = ""

    @property
    def by_person(self) -> bool:
        """Whether a person decided, not the gate."""
        return self.by in (PROMOTE, ROLLBACK)


def local_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as `2026-01-31 14:05`, in the machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))

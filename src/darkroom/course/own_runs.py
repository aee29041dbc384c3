"""What the student has run here: results of studies, of the lab and of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from darkroom.core import json_files
from darkroom.core.lazy import lazy_imports
from darkroom.course.lessons import Command, Lesson

with lazy_imports():
    from darkroom.course import pipeline_runs

SUMMARY = "summary.json"
DEFAULT_RECIPE = "digits"
STUDY, LAB, RECIPE, PIPELINE, STAGE = "study", "lab", "recipe", "pipeline", "stage"
Value = float | str | None


@dataclass(frozen=True)
class Summary:
    """What is read of a study's summary.json: rows and figures, each with a comparison, a label and numbers by name."""

    size: str
    rows: list[dict[str, Value]]
    figures: list[dict[str, Value]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnRun:
    """A command that has run here and left a result; `size` is that of a study, `data` what it was about where it is known."""

    command: str
    when: datetime
    path: Path
    size: str = ""
    data: str = ""

    def __str__(self) -> str:
        size, data = f", size {self.size}" if self.size else "", f", {self.data}" if self.data else ""
        return f"{self.command}{size}{data}, {self.when:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Step:
    """A command of a lesson that leaves a result, what it is and its name.

    The name is that of the folder of results of a study, of a command of the lab, of a stage, or of a recipe: one that is
    written into params.yaml (`recipe`), or one with which the pipeline has run to its end (`pipeline`).
    """

    command: Command
    kind: str
    name: str


def steps(commands: Sequence[Command]) -> list[Step]:
    """Return the steps of a lesson, one for each result. A recipe after which nothing runs the pipeline is none."""
    steps: dict[tuple[str, str], Step] = {}
    recipe = DEFAULT_RECIPE
    for i, command in enumerate(commands):
        kind, name = command.target
        if kind == STUDY and "--out" in command.words[:-1]:
            name = Path(command.words[command.words.index("--out") + 1]).name
        elif command.words[:2] == ["darkroom", RECIPE] and any(map(_is_repro, commands[i + 1 :])):
            kind, name = RECIPE, command.words[2]
            recipe = name
        elif _is_repro(command):
            kind, name = (STAGE, command.words[2]) if command.words[2:] else (PIPELINE, recipe)
        if kind:
            steps.setdefault((kind, name), Step(command, kind, name))
    return list(steps.values())


def _is_repro(command: Command) -> bool:
    return command.words[:2] in (["dvc", "repro"], ["darkroom", "repro"])


@dataclass(frozen=True)
class Workspace:
    """The folders of a student's own results: `results` of studies, `pictures` of the lab. Those of the pipeline have no choice."""

    results: Path
    pictures: Path

    def runs(self, lesson: Lesson) -> list[OwnRun]:
        """Return which commands of a lesson have run."""
        return [run for step in steps(lesson.commands) if step.kind != RECIPE and (run := self.run(step.kind, step.name))]

    def is_done(self, lesson: Lesson, is_read: bool) -> bool:
        """Return whether the command of the lesson has run, or for one that leaves nothing, whether its answers were read."""
        main = self.main(lesson)
        return bool(self.run(PIPELINE if main.kind == RECIPE else main.kind, main.name)) if main else is_read

    def main(self, lesson: Lesson) -> Step | None:
        """Return the step that the table of lessons names, or None where its command leaves nothing."""
        words = lesson.command.words
        if words[:2] == ["darkroom", RECIPE]:
            return Step(lesson.command, RECIPE, words[2])
        return next(iter(steps([lesson.command])), None)

    def next_command(self, lesson: Lesson, is_read: bool) -> Command | None:
        """Return the first command that has not run, or what it needs first.

        Of a lesson whose command leaves nothing this is its first one, until its answers were read.
        """
        if not is_read and self.main(lesson) is None:
            return next(iter(lesson.commands), None)
        following = next((step for step in steps(lesson.commands) if not self._is_over(step)), None)
        return next(self._required(following), following.command) if following else None

    def _is_over(self, step: Step) -> bool:
        if step.kind == RECIPE:
            return bool(self.run(PIPELINE, step.name)) or pipeline_runs.is_written(step.name)
        return self.run(step.kind, step.name) is not None

    def _required(self, step: Step) -> Iterator[Command]:
        """Yield the commands that have to run before a step can: the recipe that has its backbone, the models that it opens."""
        folders = [Path(word) for word in step.command.words if word.startswith("models/")]
        missing = [folder for folder in folders if not (folder / "model.json").is_file()]
        backbones = [folder.name for folder in missing if len(folder.parts) > 2]
        if step.kind == STAGE and "@" in step.name:
            backbones.append(step.name.partition("@")[2])
        is_other = any(map(pipeline_runs.lacks, backbones))
        if is_other and set(backbones) <= set(pipeline_runs.backbones(DEFAULT_RECIPE)):
            yield Command(f"darkroom recipe {DEFAULT_RECIPE}", f"params.yaml has another recipe, without {backbones[0]}")
        if missing:
            yield Command("darkroom repro", f"makes {missing[0].as_posix()}, which the next command opens")

    def run(self, kind: str, name: str) -> OwnRun | None:
        """Return the run of a step by its kind and name, or None if there is none. A recipe that is only written is none."""
        if kind == STUDY:
            path = self.results / name / SUMMARY
            summary = self.summary(name)
            data = str(summary.data.get("name", "")) if summary else ""
            pictures = sorted(path.parent.glob("*.png"), key=lambda picture: picture.name == "predictions.png")
            picture = next(iter(pictures), path)
            return OwnRun(f"study {name}", time_of(path), picture, summary.size, data) if summary else None
        if kind == LAB:
            file = self.lab_file(f"{name}.png")
            return OwnRun(f"lab {name}", time_of(file), file) if file else None
        result = pipeline_runs.stage(name) if kind == STAGE else pipeline_runs.recipe(name) if kind == PIPELINE else None
        command = f"dvc repro {name}" if kind == STAGE else f"dvc repro, recipe {name}"
        return OwnRun(command, time_of(result.path), result.path, data=result.source) if result else None

    def lab_file(self, name: str) -> Path | None:
        """Return the last file of this name that the lab has written, by hand or as a stage."""
        existing = [path for path in (self.pictures / name, self.results / "lab" / name) if path.is_file()]
        return max(existing, key=time_of, default=None)

    def summary(self, study: str) -> Summary | None:
        """Return the results of a study, or None if it has not run. Raises WorkspaceError for a damaged file."""
        path = self.results / study / SUMMARY
        try:
            return json_files.read(path, Summary, f"run the study again: `darkroom study {study}`")
        except FileNotFoundError:
            return None


def time_of(path: Path) -> datetime:
    """Return when a file was written."""
    return datetime.fromtimestamp(path.stat().st_mtime)

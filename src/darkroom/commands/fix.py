"""Correct labels: lines of data/label_fixes.csv, for one image or from the candidates of `evaluate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from darkroom.commands.param_types import CLASS, IMAGE
from darkroom.config import dvc_graph, params
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError, nearest, printable
from darkroom.core.lazy import lazy_imports
from darkroom.data import class_names

with lazy_imports():
    from darkroom.core import tables
    from darkroom.data import label_fixes, label_suggestions, manifest, manifest_index

TEST_REASON = "a test image: by the model's own suggestion its label would flatter the model; `--review` shows it to you"
ANSWERS = "y accept, n skip, a class name, q stop"
COMMANDS = ("y", "n", "q")


@dataclass(frozen=True)
class LeftOut:
    """A suggestion that was not accepted, and the reason."""

    image: str
    reason: str


@click.command(cls=Command)
@click.argument("image", type=IMAGE, required=False, metavar="[PATH")
@click.argument("label", type=CLASS, required=False, metavar="LABEL]")
@click.option("--remove", metavar="PATH", type=IMAGE, help="take the line of an image away again")
@click.option("--from", "source", metavar="FILE", help="accept suggestions of this file, reports/label_issues.csv")
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N",
    help="accept the first N suggestions of the file without a question, test images excepted; with --review ask about these",
)  # fmt: skip
@click.option("--review", is_flag=True, help="ask about each suggestion of the file, test images included")
@json_option
def command(
    image: str | None, label: str | None, remove: str | None, source: str | None, top: int | None, review: bool, as_json: bool
) -> None:
    """Correct the label of an image: write a line of data/label_fixes.csv, which stage ingest reads.

    PATH is an image as data/ingested/manifest.parquet has it, its file, or its pixel hash; LABEL a class of the source. `--`
    goes before names that begin with a hyphen. The candidates of the last evaluation are in reports/label_issues.csv.

    \b
    darkroom fix cat/1.jpg dog
    darkroom fix --from reports/label_issues.csv --review
    """
    modes = [name for name, chosen in (("PATH", image), ("--remove", remove), ("--from", source)) if chosen is not None]
    if len(modes) > 1:
        raise click.UsageError(f"{modes[0]} and {modes[1]} exclude each other")
    if not modes or (image is not None and label is None):
        raise click.UsageError("name an image and its label: `darkroom fix PATH LABEL`; or --from FILE; or --remove PATH")
    if source is None and (top or review):
        raise click.UsageError(f"{'--review' if review else '--top'} goes with --from reports/label_issues.csv")
    if review and as_json:
        raise click.UsageError("--review and --json exclude each other")
    editor = Editor.open(as_json)
    if remove is not None:
        editor.remove(remove)
    elif source is not None:
        editor.accept_all(Path(source), top) if not review else editor.review(Path(source), top)
    elif image is not None and label is not None:
        editor.set_one(image, label)
    editor.finish()


class Editor:
    """Changes data/label_fixes.csv, and says what was changed."""

    def __init__(self, path: Path, images: manifest_index.ManifestIndex, as_json: bool) -> None:
        self.path, self.images, self.as_json = path, images, as_json
        self.changes: list[label_fixes.Change] = []
        self.left_out: list[LeftOut] = []

    @classmethod
    def open(cls, as_json: bool) -> Editor:
        """Return an editor of the file that stage ingest reads, for the images of the last ingest."""
        options = dvc_graph.command_options("ingest", None)
        path = Path(options["out"]) / "manifest.parquet"
        if not path.exists():
            raise WorkspaceError(f"there is no {path}, which lists the images", "`dvc repro ingest`, then run this command again")
        return cls(
            Path(options["fixes"]), manifest_index.ManifestIndex(manifest.read(path), Path(params.read().ingest.source)), as_json
        )

    def _say(self, text: str) -> None:
        if not self.as_json:
            click.echo(printable(text))

    def _set(self, name: str, rows: list[manifest.Row], label: str) -> None:
        """Write the label of an image; a line that is there under another name of it is replaced."""
        change = label_fixes.set_label(self.path, name, rows, label)
        copies = f" ({len(rows)} copies)" if len(rows) > 1 else ""
        if change is None:
            self._say(f"{name}{copies} has the label {label} already")
            return
        self.changes.append(change)
        self._say(f"{change.image}{copies}: {change.label}, was {change.before}")

    def set_one(self, name: str, label: str) -> None:
        image, rows = self.images.find(name)
        self._set(image, rows, self.images.check_class(label))

    def remove(self, name: str) -> None:
        rows = self.images.matching(name)
        for line, label in label_fixes.remove(self.path, self.images.relative(name), rows).items():
            before = {row.source_label for row in rows if row.source_label}
            self.changes.append(label_fixes.Change(line, "/".join(sorted(before)), label))
            self._say(f"{line}: the line is removed" + (f"; {', '.join(sorted(before))} again, was {label}" if before else ""))

    def _suggestions(self, source: Path, top: int | None) -> list[tuple[label_suggestions.Suggestion, list[manifest.Row]]]:
        """Return the first suggestions whose image is still the one that was judged, with its row; note the others."""
        usable = []
        fixes = label_fixes.read(self.path)
        for item in label_suggestions.read(source)[:top]:
            rows = [row for row in self.images.matching(item.path) if item.sha256 in ("", row.sha256)]
            reason = item.outdated(rows[0] if rows else None, label_fixes.label_of(rows[0], fixes) if rows else "")
            if not reason and item.suggested not in self.images.classes:
                reason = f"there is no class {item.suggested}"
            if reason:
                self._leave_out(item.path, reason)
            else:
                usable.append((item, rows[:1]))
        return usable

    def _leave_out(self, image: str, reason: str) -> None:
        self.left_out.append(LeftOut(image, reason))
        self._say(f"left out: {image}: {reason}")

    def accept_all(self, source: Path, top: int | None) -> None:
        """Accept the first `top` suggestions, those for test images excepted."""
        if top is None:
            raise click.UsageError("say how many suggestions: --top N accepts the first N, --review asks about each")
        for item, rows in self._suggestions(source, top):
            if rows[0].split == "test":
                self._leave_out(item.path, TEST_REASON)
            else:
                self._set(rows[0].path, rows, item.suggested)

    def review(self, source: Path, top: int | None) -> None:
        """Ask about each suggestion; every answer is written at once."""
        if not sys.stdin.isatty():
            raise WorkspaceError(
                "--review asks questions, and standard input is no terminal",
                f"run it in a terminal, or accept without questions: `darkroom fix --from {source} --top N`",
            )
        suggestions = self._suggestions(source, top)
        click.echo(f"{len(suggestions)} suggestions: {ANSWERS}{self._ambiguous()}")
        try:
            for number, (item, rows) in enumerate(suggestions, start=1):
                click.echo(printable(f"{number}/{len(suggestions)} {self.images.location(rows[0])} ({rows[0].split})"))
                label = self._ask(item)
                if label is None:
                    break
                if label:
                    self._set(rows[0].path, rows, label)
        except click.Abort:
            click.echo()
            self.finish()
            raise

    def _ambiguous(self) -> str:
        """Return how a class is typed whose name is one of the letters above."""
        names = sorted(set(COMMANDS) & self.images.classes)
        return f"; ={names[0]} for the class {names[0]}" if names else ""

    def _ask(self, item: label_suggestions.Suggestion) -> str | None:
        """Return the label that the user chooses, empty to skip, None to stop."""
        question = printable(f"  {item.label} → {item.suggested}? {item.described()} [y/n/class/q]")
        while True:
            typed = class_names.normalise(click.prompt(question, prompt_suffix=" "))
            if typed in COMMANDS:
                return {"y": item.suggested, "n": "", "q": None}[typed]
            label = typed if typed in self.images.classes else typed.removeprefix("=")
            if label in self.images.classes:
                return label
            click.echo(printable(f"  there is no class {typed}{nearest(label, self.images.classes)}; {ANSWERS}{self._ambiguous()}"))

    def finish(self) -> None:
        """Say what was changed, and what applies it."""
        if self.as_json:
            tables.print_json(self.as_dict())
            return
        if self.left_out or len(self.changes) > 1:
            click.echo(f"{len(self.changes)} labels corrected in {self.path}, {len(self.left_out)} suggestions left out")
        click.echo(f"`dvc repro` applies {self.path}" if self.changes else f"{self.path} is unchanged")

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "path": self.path.as_posix(),
            "changes": [{"image": item.image, "label": item.label, "before": item.before} for item in self.changes],
            "left_out": [{"image": item.image, "reason": item.reason} for item in self.left_out],
        }

"""Explain the last evaluation, or compare two of them: folders with reports, or revisions of git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import click

from darkroom.config import dvc_graph, params
from darkroom.core import atomic
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import DarkroomError, ParamsError, WorkspaceError, printable
from darkroom.core.lazy import lazy_imports
from darkroom.evaluation import metrics_io

with lazy_imports():
    from darkroom.api import project
    from darkroom.core import tables
    from darkroom.evaluation import predictions, report_diff
    from darkroom.evaluation.report import verdict

REPORTS = Path("reports")
PAGE_OF_ALL, PAGE = REPORTS / "report.html", REPORTS / "side-by-side.html"
REQUIRED, OPTIONAL = (metrics_io.METRICS, metrics_io.DETAILS), "predictions.parquet"


@click.command(cls=Command)
@click.option(
    "--compare", "sides", nargs=2, metavar="A B",
    help="two evaluations: a workspace, a folder with its reports, or a git revision whose files are in DVC's cache (HEAD, a tag)",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", show_default=str(PAGE), help="the page of --compare")
@json_option
def command(sides: tuple[str, str] | None, out: Path | None, as_json: bool) -> None:
    """Explain the last evaluation in a few sentences, or compare two evaluations, on a page and in two sentences."""
    if sides:
        page = out or PAGE
        headline, sentences = _compare(*sides, page)
    elif out:
        raise click.UsageError("--out is for the page of --compare")
    else:
        page = PAGE_OF_ALL
        headline, sentences = verdict.sentences(*metrics_io.read_both(*(REPORTS / name for name in REQUIRED)))
    if as_json:
        tables.print_json({"headline": headline, "sentences": sentences, "page": str(page)})
    else:
        click.echo("\n  ".join([headline, *sentences]) + f"\n\npage: {page}{'' if sides else _stale()}")


def _stale() -> str:
    """Return a note where the page is missing or of an earlier evaluation: the stage `diagnose` has not run since."""
    if PAGE_OF_ALL.exists() and project.open().is_diagnosed:
        return ""
    return " (not of this evaluation yet: `dvc repro diagnose` writes it)"


def _compare(one: str, other: str, page: Path) -> tuple[str, list[str]]:
    """Write the page about two evaluations; return a headline and an explanation."""
    if page.exists() and not (page.is_file() and report_diff.MARK in page.read_text(encoding="utf-8", errors="replace")):
        raise ParamsError(f"{page} exists and is not an earlier page of --compare", "name a new file: --out FILE")
    a, b = _side(one), _side(other)
    only = [sorted(set(x.details.classes) - set(y.details.classes)) for x, y in ((a, b), (b, a))]
    if any(only):
        differ = " and ".join(f"{side.name} has {_list_names(names)}" for side, names in zip((a, b), only, strict=True) if names)
        raise ParamsError(f"these are two questions, not two answers: only {differ}", "compare evaluations with the same classes")
    with atomic.new_file(page) as working:
        working.write_text(report_diff.page(a, b), encoding="utf-8")
    headline, explanation = report_diff.headline(a, b, report_diff.paired(a, b))
    return headline, [explanation]


def _list_names(names: list[str]) -> str:
    some = ", ".join(printable(name) for name in names[:5])
    return some + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _side(name: str) -> report_diff.Side:
    """Return the evaluation of a folder, or where there is none of a revision."""
    folder = Path(name)
    if os.path.isdir(folder):  # Path.is_dir raises OSError for a name that is too long
        folder = folder / "reports" if (folder / "reports" / REQUIRED[0]).exists() else folder
        if not (folder / REQUIRED[0]).exists():
            raise WorkspaceError(
                f"{name} holds no {REQUIRED[0]}", "name a workspace in which `dvc repro` has run, or a copy of its reports"
            )
        files = {file: folder / file for file in (*REQUIRED, OPTIONAL)}
        settings_file = next((path for path in (folder / "params.yaml", folder.parent / "params.yaml") if path.exists()), None)
        settings = _settings(settings_file.read_bytes(), str(settings_file)) if settings_file else {}
    else:
        files, settings = _of_revision(name)
    try:
        metrics, details = metrics_io.read_both(*(files[file] for file in REQUIRED))
    except DarkroomError as error:
        raise WorkspaceError(
            f"{name} cannot be compared: {error.problem}", "evaluate it with this Darkroom: check it out, `dvc repro evaluate`"
        ) from error
    file = files.get(OPTIONAL)
    rows = predictions.of_test(file, metrics.best) if file and file.exists() else None
    return report_diff.Side(Path(name).resolve().name if name in (".", "..") else name, metrics, details, rows, settings)


def _of_revision(name: str) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the paths in DVC's cache of a revision's evaluation, and its params."""
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        raise ParamsError(
            f"{name} is neither a folder nor a revision of this project", "name a folder with reports, a commit, a tag or HEAD~1"
        )
    lock = _git("show", f"{commit.strip()}:./dvc.lock")
    stages = dvc_graph.parse_lock(lock, f"dvc.lock of {name}") if lock else {}
    outs = {Path(path).name: md5 for path, md5 in stages["evaluate"].outs.items() if md5} if "evaluate" in stages else {}
    files = {file: dvc_graph.cache_path(outs[file]) for file in (*REQUIRED, OPTIONAL) if file in outs}
    for file in REQUIRED:
        if file not in files:
            raise WorkspaceError(
                f"dvc.lock of {name} has no {file}: nothing was evaluated there by a Darkroom that writes it",
                "check it out, run `dvc repro`, commit dvc.lock; or keep a copy of reports/ and name that",
            )
        if not files[file].exists():
            raise WorkspaceError(
                f"{file} of {name} is not in DVC's cache",
                "`dvc fetch --all-commits` where there is a remote; else check the revision out and run `dvc repro evaluate`",
            )
    text = _git("show", f"{commit.strip()}:./params.yaml")
    return files, {} if text is None else _settings(text.encode(), f"params.yaml of {name}")


def _settings(content: bytes, name: str) -> dict[str, Any]:
    """Return the params in the content of a params.yaml."""
    settings = params.parse_yaml(content.decode(errors="replace"), name)
    if not isinstance(settings, dict):
        raise ParamsError(f"{name} holds no params", "restore it, or name a folder without it")
    return settings


def _git(*words: str) -> str | None:
    """Return the output of git, None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

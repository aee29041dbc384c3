"""Say what the last evaluation found; --compare puts two of them side by side, folders with reports or revisions of git."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config import dvc_graph
from darkroom.core import atomic
from darkroom.core.errors import DarkroomError, ParamsError, WorkspaceError

if TYPE_CHECKING:
    from darkroom.evaluation.report_diff import Side

REPORTS = Path("reports")
PAGE = REPORTS / "side-by-side.html"
NEEDED, WANTED = ("metrics.json", "details.json"), "predictions.parquet"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom report", description=__doc__)
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help="a workspace, a folder with its reports, or a git revision whose files are in DVC's cache (HEAD, a tag)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page of --compare (default: {PAGE})")
    given = parser.parse_args(arguments)
    from darkroom.evaluation import metrics_io, report_diff
    from darkroom.evaluation.report import verdict

    if given.out and not given.compare:
        parser.error("--out is for the page of --compare")
    if not given.compare:
        metrics, details = metrics_io.both(*(REPORTS / name for name in NEEDED))
        said, sentences = verdict.sentences(metrics, details)
        print("\n  ".join([said, *sentences]))
        print(f"\nto look at: {REPORTS / 'report.html'}")
        return 0
    out = given.out or PAGE
    if out.exists() and not (out.is_file() and report_diff.MARK in out.read_text(encoding="utf-8", errors="replace")):
        raise ParamsError(f"{out} is there, and is not an earlier page of --compare", "name a new file: --out FILE")
    a, b = (_side(name) for name in given.compare)
    with atomic.new_file(out) as working:
        working.write_text(report_diff.page(a, b), encoding="utf-8")
    print("\n  ".join(report_diff.headline(a, b, report_diff.paired(a, b))))
    print(f"\nto look at: {out}")
    return 0


def _side(name: str) -> Side:
    """Return the evaluation that a word means: a folder where there is one, else a revision."""
    from darkroom.evaluation import metrics_io, predictions, report_diff

    folder = Path(name)
    if os.path.isdir(folder):  # which a word too long for a name is not; Path.is_dir complains
        folder = folder / "reports" if (folder / "reports" / NEEDED[0]).exists() else folder
        if not (folder / NEEDED[0]).exists():
            raise WorkspaceError(
                f"{name} holds no {NEEDED[0]}", "name a workspace in which `dvc repro` has run, or a copy of its reports"
            )
        files = {file: folder / file for file in (*NEEDED, WANTED)}
        beside_it = next((path for path in (folder / "params.yaml", folder.parent / "params.yaml") if path.exists()), None)
        settings = _settings(beside_it.read_bytes(), str(beside_it)) if beside_it else {}
    else:
        files, settings = _of_revision(name)
    try:
        metrics, details = metrics_io.both(*(files[file] for file in NEEDED))
    except DarkroomError as error:
        raise WorkspaceError(
            f"{name} cannot be compared: {error.problem}", "evaluate it with this Darkroom: check it out, `dvc repro evaluate`"
        ) from error
    said = files.get(WANTED)
    answers = predictions.lines(said, metrics["best"]) if said and said.exists() else None
    name = Path(name).resolve().name if name in (".", "..") else name
    return report_diff.Side(name, metrics, details, answers, settings)


def _of_revision(name: str) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return where DVC's cache has the files of a revision's evaluation, and its params."""
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        raise ParamsError(
            f"{name} is neither a folder nor a revision of this project", "name a folder with reports, a commit, a tag or HEAD~1"
        )
    lock = _git("show", f"{commit.strip()}:./dvc.lock")
    stages = dvc_graph.parsed(lock, f"dvc.lock of {name}") if lock else {}
    outs = {Path(out["path"]).name: out["md5"] for out in stages.get("evaluate", {}).get("outs", []) if out.get("md5")}
    files = {file: dvc_graph.stored(outs[file]) for file in (*NEEDED, WANTED) if file in outs}
    for file in NEEDED:
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
    from darkroom.config.params import parse_yaml

    found = parse_yaml(content.decode(errors="replace"), name)
    if not isinstance(found, dict):
        raise ParamsError(f"{name} holds no params", "restore it, or name a folder without it")
    return found


def _git(*words: str) -> str | None:
    """Return what git says, None where it refuses or is not there."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

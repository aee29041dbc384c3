"""Detect drift in new photographs: classify them, and compare them with the model's reference images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import MODEL
from darkroom.core import locks, user_paths
from darkroom.core.command_line import Command, Many, json_option
from darkroom.core.errors import DRIFTED, ParamsError, WorkspaceError, nearest, printable
from darkroom.core.lazy import lazy_imports
from darkroom.tracking.entities import EVALUATION, REFERENCE

with lazy_imports():
    from darkroom.core import tables
    from darkroom.data import arrays
    from darkroom.inference import classifier as classifiers
    from darkroom.monitoring import check as checks
    from darkroom.monitoring import drift, history, reference
    from darkroom.tracking import registry

OUT = Path("reports/monitoring")
INBOX = "data/inbox"
INGESTED = Path("data/ingested")
TESTS = ("embeddings", "classes", "confidence")
MIN_ALPHA = 0.001  # below it, tests would take millions of permutations
WAIT = 30.0  # seconds for another check to end


@click.command(cls=Command)
@click.argument("folders", nargs=-1, metavar="[FOLDER]…")
@click.option("--model", default="champion", type=MODEL, help="champion, another alias, a version, or a checkpoint folder")
@click.option(
    "--window", type=click.IntRange(min=2), default=100, metavar="N",
    help="number of latest images that are compared; a series counts once",
)  # fmt: skip
@click.option(
    "--min-images", "--least", type=click.IntRange(min=2), default=20, metavar="N",
    help="minimum number of images before drift is tested, and of new ones before it is again; a series counts once",
)  # fmt: skip
@click.option(
    "--series-minutes", type=click.FloatRange(min=0), default=5.0, metavar="MINUTES",
    help="images taken within this time are a series; with 0 near duplicates alone are",
)  # fmt: skip
@click.option("--alpha", type=float, default=0.05, help="probability of a false alarm within 30 days, at most")
@click.option(
    "--limit", "limits", cls=Many, metavar="TEST=SIZE …", show_default="embeddings=0.65 classes=0.2 confidence=0.1",
    help="the smallest size of a difference that is drift",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=OUT, metavar="FOLDER", help="folder of the log and the page")
@json_option
def command(
    folders: tuple[str, ...],
    model: str,
    window: int,
    min_images: int,
    series_minutes: float,
    alpha: float,
    limits: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> int:
    """Detect drift in new photographs.

    FOLDER is where images arrive, data/inbox by default. Each file is classified once; the latest ones are
    compared with images that the model has not learnt, and the accuracy
    that the labels would show is estimated. Of a series, such as a burst of one scene, one image
    counts. The exit code is 3 where there is drift.

    The predictions are kept in reports/monitoring/log (Parquet), the result of each check in history.jsonl
    beside it; reports/monitoring/index.html shows the last one.
    """
    if window < min_images:
        raise ParamsError(f"--window {window} is smaller than --min-images {min_images}", "give a larger --window")
    parsed = _parse_limits(alpha, limits)
    paths = [user_paths.expand(name, "FOLDER").resolve() for name in folders or [INBOX]]
    for name, path in zip(folders or [INBOX], paths, strict=True):
        if not path.exists():
            raise WorkspaceError(f"there is no {name}", "make the folder in which images arrive, or name another one")
        user_paths.check_file(path)
    with locks.hold(out / ".lock", wait=WAIT) as acquired:
        if not acquired:
            raise WorkspaceError(
                f"another `darkroom monitor` is already running on {out}", "wait for it, or end it", retryable=True
            )
        try:
            classifier, info = model_resolver.load_on_device(model)
        except model_resolver.NoChampionError as error:
            raise WorkspaceError(error.problem, error.remedy, retryable=True) from error
        options = checks.Options(parsed, window, min_images, series_minutes)
        result = checks.check(classifier, info, lambda: _load_reference(classifier, info), paths, options, out)
    if as_json:
        tables.print_json(asdict(result))
    else:
        _print(result, out)
    return DRIFTED if result.drifted else 0


def _parse_limits(alpha: float, limits: tuple[str, ...]) -> drift.Limits:
    sizes: dict[str, float] = {}
    for text in limits:
        test, _, value = text.partition("=")
        if test not in TESTS:
            raise ParamsError(f'--limit has no test "{test}"{nearest(test, TESTS)}', f"choose from {', '.join(TESTS)}")
        try:
            sizes[test] = float(value)
        except ValueError:
            sizes[test] = 0.0
        if not 0 < sizes[test] < 1:
            raise ParamsError(f"--limit {text}: the size has to be above 0 and below 1", f"write it like {test}=0.2")
    if not MIN_ALPHA <= alpha < 1:
        raise ParamsError(
            f"--alpha {alpha} is no probability that can be kept", f"give one from {MIN_ALPHA} to below 1, such as 0.05"
        )
    return drift.Limits(alpha, **sizes)


def _load_reference(classifier: classifiers.Classifier, model: classifiers.ModelInfo) -> reference.Reference:
    """Return the reference stored with the version, or compute it from the workspace's held-out images."""
    if model.version:
        path = registry.fetch(model.name, model.version) / EVALUATION / REFERENCE
        if path.exists():
            return reference.read(path)
    held_out = reference.load_held_out(INGESTED)
    size = classifier.checkpoint.preprocessing.image_size
    if arrays.load_classes(INGESTED / "classes.json") != classifier.classes or held_out.images[0].shape[1] != size:
        raise WorkspaceError(
            f"{model.description} was registered without a reference, and the workspace holds another data set",
            "restore its data set (`dvc checkout`), or monitor a model that was registered since: `dvc repro` registers one",
        )
    return reference.compute(classifier.examine, held_out)


def _print(check: history.DriftCheck, out: Path) -> None:
    unreadable = f", {check.unreadable} of them unreadable" if check.unreadable else ""
    lines = [f"{check.new} new images{unreadable}"]
    for test in check.tests:
        mark = "DRIFT " if test.drifted else "  same"
        lines.append(f"  {mark}  {test.name:<11} {test.size:6.3f} (limit {test.limit:g}), p {test.corrected:.4f}")
    if check.expected_accuracy:
        lines.append(f"  {check.expected_accuracy}")
    if check.flags:
        lines.append("  flags: " + ", ".join(f"{count} {name}" for name, count in check.flags.items()))
    lines += [printable(check.summary), f"by {printable(check.description)}; see {out}/index.html"]
    click.echo("\n".join(lines))

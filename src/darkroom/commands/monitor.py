"""Look at images that have arrived: what the champion says of them, and whether they are like those that it was made for."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands import model_resolver
from darkroom.core import atomic, locks
from darkroom.core.errors import ParamsError, WorkspaceError, nearest, printable

if TYPE_CHECKING:
    from darkroom.inference.classifier import Classifier
    from darkroom.monitoring.prediction_log import Log
    from darkroom.monitoring.reference import Images

OUT = Path("reports/monitoring")
INBOX = Path("data/inbox")
AT_ONCE, KEPT = 64, 512  # images that are answered together, and written together
WAIT = 30.0  # seconds for another check to end
SETTLED = 2.0  # seconds since a file changed last, before which it may still be written


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "darkroom monitor", description=__doc__,
        epilog=f"What is said is kept in {OUT}/log (Parquet); {OUT}/index.html shows the last images. A file is looked at once.",
    )  # fmt: skip
    parser.add_argument("images", nargs="*", default=[str(INBOX)], metavar="FOLDER", help=f"where images arrive (default: {INBOX})")
    parser.add_argument("--model", default="champion", help="champion (default), another alias, a version, or a checkpoint folder")
    parser.add_argument("--window", type=int, default=500, metavar="N", help="the last N images are compared (default: 500)")
    parser.add_argument("--least", type=int, default=20, metavar="N", help="of fewer images nothing is said (default: 20)")
    parser.add_argument("--alpha", type=float, default=0.01, help="significance, corrected for three tests (default: 0.01)")
    parser.add_argument(
        "--limit", nargs="+", default=[], metavar="KIND=SIZE",
        help="the size from which a difference counts: embeddings=0.65 classes=0.2 confidence=0.1",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="of the log and the page")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args(arguments)
    limits = _limits(given.alpha, given.limit)
    folders = [Path(name).expanduser().resolve() for name in given.images]
    if given.least < 2 or given.window < given.least:
        raise ParamsError(f"--window {given.window} --least {given.least} compares nothing", "give --least 2 or more, and a window")
    for name, folder in zip(given.images, folders, strict=True):
        if not folder.exists():
            raise WorkspaceError(f"there is no {name}", "make the folder in which images arrive, or name another one")
    with locks.hold(given.out / ".lock", wait=WAIT) as free:
        if not free:
            raise WorkspaceError(f"another check of {given.out} is at it", "wait for it, or end it", retryable=True)
        try:
            found = _check(given, folders, limits)
        except model_resolver.NoChampionError as error:
            raise WorkspaceError(error.problem, error.remedy, retryable=True) from error
    print(json.dumps(found, indent=2) if given.json else _words(found, given.out))
    return 0


def _limits(alpha: float, given: list[str]) -> Any:
    from darkroom.monitoring.drift import FINEST, Limits

    sizes, kinds = {}, [field.name for field in fields(Limits) if field.name != "alpha"]
    for word in given:
        kind, _, value = word.partition("=")
        if kind not in kinds:
            raise ParamsError(f'--limit knows no "{kind}"{nearest(kind, kinds)}', f"name one of {', '.join(kinds)}")
        try:
            sizes[kind] = float(value)
        except ValueError:
            sizes[kind] = math.nan
        if not 0 < sizes[kind] < 1:
            raise ParamsError(f"--limit {word}: {value!r} is no size that a difference can have", f"above 0, below 1: {kind}=0.2")
    if not FINEST < alpha < 1:
        raise ParamsError(f"no p-value can be below --alpha {alpha}", f"give a number between {FINEST} and 1, such as 0.01")
    return Limits(alpha, **sizes)


def _check(given: argparse.Namespace, folders: list[Path], limits: Any) -> dict[str, Any]:
    """Answer for what is new, compare the last images with the reference, write the page; return what came out."""
    from darkroom.monitoring import history
    from darkroom.monitoring.prediction_log import Log

    classifier, model = model_resolver.load(given.model)
    log, sha256 = Log(given.out / "log"), model["checkpoint_sha256"]
    count, unreadable = _answer(classifier, model, list(_new(folders, log.known(sha256))), log)
    past = history.read(given.out)
    before = next((item for item in reversed(past) if item["checkpoint_sha256"] == sha256), None)
    asked = {
        "folders": sorted(map(str, folders)),
        "window": given.window,
        "least": given.least,
        **vars(limits),
        "log": log.newest(),
    }
    found: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "model": model["name"], "version": model["version"],
        "said": model["said"], "checkpoint_sha256": sha256, "new": count, "unreadable": unreadable,
    }  # fmt: skip
    if before and before["asked"] == asked:  # nothing has come since, and nothing else is asked
        return {**before, **found}
    window = log.latest(sha256, given.window, folders)
    found |= {"images": len(window), "least": given.least, "flags": history.flags(window), "drifted": False, "tests": []}
    known, unlike = _reference(classifier, model), None
    if len(window) >= given.least:
        tests, unlike = _compared(known, window, classifier.classes, limits)
        found |= {"tests": [vars(test) for test in tests], "drifted": any(test.drifted for test in tests)}
    found |= {"words": history.words(found), "asked": asked}
    _page(given.out, found, [*past, found], window, known, unlike, classifier.classes)
    history.append(given.out, found)
    return found


def _new(folders: list[Path], known: set[tuple[str, int, int]]) -> Iterator[tuple[Path, int, int]]:
    """Yield files that the log does not know, with size and time of change; one that may still be written waits."""
    from darkroom.commands.predict import expand

    for path in expand([str(folder) for folder in folders]):
        try:
            about = path.stat()
        except OSError:  # it has gone meanwhile
            continue
        fresh = 0 <= time.time() - about.st_mtime <= SETTLED
        if stat.S_ISREG(about.st_mode) and not fresh and (_text(path), about.st_size, about.st_mtime_ns) not in known:
            yield path, about.st_size, about.st_mtime_ns


def _answer(classifier: Classifier, model: dict[str, Any], files: list[tuple[Path, int, int]], log: Log) -> tuple[int, int]:
    """Answer for files and keep that in the log, part by part; return how many there are, and how many cannot be read."""
    count = unreadable = 0
    rows: list[dict[str, Any]] = []
    for row in _answers(classifier, model, files):
        count, unreadable = count + 1, unreadable + bool(row["error"])
        if row["sha256"]:  # what could not be opened is tried again
            rows.append(row)
        if len(rows) == KEPT:
            log.append(rows)
            rows = []
    if rows:
        log.append(rows)
    return count, unreadable


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()  # a name need not be text


def _answers(classifier: Classifier, model: dict[str, Any], files: list[tuple[Path, int, int]]) -> Iterator[dict[str, Any]]:
    """Yield for every file a row of the log."""
    from darkroom.core.progress import Progress
    from darkroom.data import quality
    from darkroom.data.decoding import decode

    wanted, now = classifier.checkpoint.preprocessing, datetime.now(UTC)
    with Progress("monitor", len(files)) if files else nullcontext() as progress:
        for start in range(0, len(files), AT_ONCE):
            rows, seen = [], []
            for path, size, changed in files[start : start + AT_ONCE]:
                row: dict[str, Any] = {
                    "time": now, "path": _text(path), "bytes": size, "changed": changed, "sha256": "", "model": model["name"],
                    "version": model["version"], "checkpoint_sha256": model["checkpoint_sha256"], "flags": [], "error": None,
                }  # fmt: skip
                rows.append(row)
                try:
                    content = path.read_bytes()
                except OSError as error:
                    row["error"] = (error.strerror or str(error)).lower()
                    print(f"{printable(row['path'])}: {row['error']}", file=sys.stderr)
                    continue
                row["sha256"] = hashlib.sha256(content).hexdigest()
                image = decode(content, wanted.image_size, wanted.resize, wanted.background)
                if image.pixels is None or image.whole is None:
                    row["error"] = image.reason
                    continue
                looked = quality.examine(image.whole)
                odd = quality.odd_aspect(image.width, image.height)
                row["flags"] = [*(looked[0].issues() if looked else ()), *(["odd_aspect"] if odd else []),
                                *(["damaged"] if "damaged" in image.flags else [])]  # fmt: skip
                seen.append((row, image.pixels))
            if seen:
                import numpy as np

                answers = classifier.answers(np.stack([pixels for _, pixels in seen]))
                for (row, _), embedding, shares in zip(seen, *answers, strict=True):
                    best = int(shares.argmax())
                    row |= {
                        "label": classifier.classes[best], "confidence": float(shares[best]), "embedding": embedding,
                        "probabilities": list(zip(classifier.classes, shares.tolist(), strict=True)),
                    }  # fmt: skip
            yield from rows
            progress.advance(len(rows))  # type: ignore[union-attr]


def _reference(classifier: Classifier, model: dict[str, Any]) -> Images:
    """Return what the model makes of held-out images: kept with the version, or made of the images that are here."""
    from darkroom.data import arrays
    from darkroom.monitoring import reference
    from darkroom.tracking import model_package, registry

    if model["version"]:
        kept = registry.fetch(model["name"], model["version"]) / model_package.EVALUATION / model_package.REFERENCE
        if kept.exists():
            return reference.read(kept)
    here, size = arrays.load_classes(Path("data/ingested/classes.json")), classifier.checkpoint.preprocessing.image_size
    held_out = [arrays.load_split(Path("data/ingested") / split)[0] for split in ("val", "test")]
    if here != classifier.classes or held_out[0].shape[1] != size:
        raise WorkspaceError(
            f"{model['said']} was registered without a reference, and the data set here is not the one that it was made for",
            "bring that back (`dvc checkout`), or monitor a model that was registered since: `dvc repro` makes one",
        )
    return reference.make(classifier.answers, held_out)


def _compared(known: Images, window: list[dict[str, Any]], classes: tuple[str, ...], limits: Any) -> Any:
    import numpy as np

    from darkroom.monitoring import drift
    from darkroom.monitoring.reference import Images

    where = {name: number for number, name in enumerate(classes)}
    new = Images(
        np.array([row["embedding"] for row in window], np.float32), np.array([where[row["label"]] for row in window]),
        np.array([row["confidence"] for row in window]),
    )  # fmt: skip
    return drift.compare(known, new, len(classes), limits)


def _page(out: Path, found: dict[str, Any], past: list[dict[str, Any]], window: list[dict[str, Any]], known: Images, unlike: Any,
          classes: tuple[str, ...]) -> None:  # fmt: skip
    from darkroom.core import pages
    from darkroom.data import quality
    from darkroom.data.decoding import decode
    from darkroom.monitoring import page

    def picture(path: str) -> str:
        try:
            whole = decode(Path(path).read_bytes(), 32, "crop", (0, 0, 0)).whole
        except OSError:  # it has been moved away
            return ""
        return "" if whole is None else pages.picture(whole, 160)

    faults = {flag: words for flag, (words, _) in quality.ISSUES.items()}
    text = page.page(found, past, window, known, unlike, classes, picture, faults)
    with atomic.new_file(out / "index.html") as working:
        working.write_text(text, encoding="utf-8")


def _words(found: dict[str, Any], out: Path) -> str:
    """Return what came out as people read it in a terminal."""
    lines = [f"{found['new']} new images" + (f", {found['unreadable']} of them unreadable" if found["unreadable"] else "")]
    for test in found["tests"]:
        mark = "DRIFT " if test["drifted"] else "  same"
        lines.append(f"  {mark}  {test['name']:<11} {test['size']:6.3f} (limit {test['limit']:g}), p {test['corrected']:.4f}")
    flags = ", ".join(f"{count} {name}" for name, count in found["flags"].items())
    lines += [f"  pictures: {flags}"] if flags else []
    lines += [printable(found["words"]), f"by {printable(found['said'])}; {out}/index.html shows it"]
    return "\n".join(lines)

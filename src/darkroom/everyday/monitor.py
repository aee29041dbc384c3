"""Look at images that have arrived: what the champion says of them, and whether they are like those that it was made for."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom import atomic, locks
from darkroom.errors import ParamsError, WorkspaceError, nearest, printable

if TYPE_CHECKING:
    from darkroom.monitoring.reference import Images
    from darkroom.prediction.classifier import Classifier

OUT = Path("reports/monitoring")
INBOX = Path("data/inbox")
AT_ONCE = 64
SETTLED = 2.0  # seconds since a file changed last, before which it may still be written
LIMITS = ("embeddings", "classes", "confidence")


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
    if given.least < 2 or given.window < given.least:
        raise ParamsError(f"--window {given.window} --least {given.least} compares nothing", "give --least 2 or more, and a window")
    for name in given.images:
        if not Path(name).expanduser().exists():
            raise WorkspaceError(f"there is no {name}", "make the folder in which images arrive, or name another one")
    with locks.hold(given.out / ".lock", wait=600) as free:
        if not free:
            raise WorkspaceError(f"another check of {given.out} has been at it for 10 minutes", "wait for it, or end it")
        found = _check(given, limits)
    print(json.dumps(found, indent=2) if given.json else _words(found, given.out))
    return 0


def _limits(alpha: float, given: list[str]) -> Any:
    from darkroom.monitoring.drift import Limits

    sizes = {}
    for word in given:
        kind, _, value = word.partition("=")
        if kind not in LIMITS:
            raise ParamsError(f'--limit knows no "{kind}"{nearest(kind, LIMITS)}', f"name one of {', '.join(LIMITS)}")
        try:
            sizes[kind] = float(value)
        except ValueError:
            raise ParamsError(f"--limit {word}: {value!r} is no number", f"such as {kind}=0.2") from None
    if not 0 < alpha < 1:
        raise ParamsError(f"--alpha {alpha} is no level of significance", "give a number between 0 and 1, such as 0.01")
    return Limits(alpha, **sizes)


def _check(given: argparse.Namespace, limits: Any) -> dict[str, Any]:
    """Answer for what is new, compare the last images with the reference, write the page; return what came out."""
    from darkroom.everyday.chosen import load
    from darkroom.monitoring import history
    from darkroom.monitoring.log import Log

    classifier, model = load(given.model)
    log = Log(given.out / "log")
    sha256 = model["checkpoint_sha256"]
    files = list(_new(given.images, log.known(sha256)))
    rows = list(_answers(classifier, model, files))
    if rows:
        log.append(rows)
    past = history.read(given.out)
    before = next((item for item in reversed(past) if item["checkpoint_sha256"] == sha256), None)
    unreadable = sum(bool(row["error"]) for row in rows)
    found: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "model": model["name"], "version": model["version"],
        "said": model["said"], "checkpoint_sha256": sha256, "new": len(rows), "unreadable": unreadable,
    }  # fmt: skip
    if not rows and before:
        return {**before, **found, "began": False}
    window = log.latest(sha256, given.window)
    found |= {"images": len(window), "least": given.least, "flags": history.flags(window)}
    found |= {"drifted": False, "began": False, "tests": []}
    known = _reference(classifier, model)
    unlike = None
    if len(window) >= given.least:
        tests, unlike = _compared(known, window, classifier.classes, limits)
        found["tests"] = [vars(test) for test in tests]
        found["drifted"] = any(test.drifted for test in tests)
        found["began"] = found["drifted"] and not (before and before["drifted"])
    found["words"] = history.words(found)
    history.append(given.out, found)
    _page(given.out, found, [*past, found], window, known, unlike, classifier.classes)
    return found


def _new(names: list[str], known: set[tuple[str, int, int]]) -> Iterator[tuple[Path, int, int]]:
    """Yield files that the log does not know, with size and time of change; one that may still be written waits."""
    from darkroom.everyday.predict import expand

    for path in expand(names):
        try:
            about = path.stat()
        except OSError:  # it has gone meanwhile
            continue
        if (_text(path), about.st_size, about.st_mtime_ns) not in known and time.time() - about.st_mtime > SETTLED:
            yield path, about.st_size, about.st_mtime_ns


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()  # a name need not be text


def _answers(classifier: Classifier, model: dict[str, Any], files: list[tuple[Path, int, int]]) -> Iterator[dict[str, Any]]:
    """Yield for every file a row of the log."""
    from darkroom.data import quality
    from darkroom.data.decoding import decode
    from darkroom.progress import Progress

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
    from darkroom.tracking import registry, stored

    if model["version"]:
        kept = registry.fetch(model["name"], model["version"]) / stored.EVALUATION / stored.REFERENCE
        if kept.exists():
            return reference.read(kept)
    held_out = [arrays.load_split(Path("data/ingested") / split)[0] for split in ("val", "test")]
    size = classifier.checkpoint.preprocessing.image_size
    if held_out[0].shape[1] != size:
        raise WorkspaceError(
            f"{model['said']} has no reference to compare with, and images here have {held_out[0].shape[1]} pixels, not {size}",
            "register it again (`dvc repro`), or bring back the data that it was trained on (`dvc checkout`)",
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
    from darkroom import pages
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Say what is on images: files, folders and globs, by the champion or any other trained model."""

from __future__ import annotations

import argparse
import csv
import glob
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands import model_resolver
from darkroom.core.errors import ParamsError, WorkspaceError, printable

if TYPE_CHECKING:
    from darkroom.inference.classifier import Classifier

AT_ONCE = 64
EXPLAINED = Path("reports/explained")
METHODS = ("LayerCAM", "Grad-CAM", "occlusion")  # of inference/explanation.py, which takes torch to ask
# what a folder is searched for; a file that is named is tried whatever it is called
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".pbm", ".pgm", ".ppm",
    ".pnm", ".sgi", ".rgb", ".avif", ".heic", ".heif",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "darkroom predict",
        description=__doc__,
        epilog="exit code: 0 all images were answered, 1 some could not be read, 2 a mistake",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a file, a folder (searched whole) or a glob; - reads names from stdin"
    )
    parser.add_argument(
        "--model", default="champion",
        help="champion (default), challenger, a version number, a checkpoint folder like models/baseline, or models:/name/version",
    )  # fmt: skip
    parser.add_argument("--top", type=int, default=1, metavar="K", help="show the K most probable classes in the table")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object: the model, and a prediction per image")
    form.add_argument("--csv", action="store_true", help="a line per image, with the probability of every class")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--explain", dest="explain_to", action="store_const", const=EXPLAINED,
        help=f"heat maps of what it looks at, as a page in {EXPLAINED}",
    )  # fmt: skip
    shown.add_argument("--explain-to", type=Path, metavar="FOLDER", help="the same in a new folder, or in that of an earlier page")
    parser.add_argument(
        "--explain-by", choices=METHODS, metavar="METHOD",
        help="LayerCAM, Grad-CAM or occlusion, in place of what suits the network (a perceptron: always occlusion)",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    if given.explain_by and not given.explain_to:
        raise ParamsError("--explain-by has nothing to explain", "give --explain or --explain-to FOLDER with it")
    if given.explain_to:
        from darkroom.inference import explanation  # torch, which the answers need anyhow

        explanation.check(given.explain_to)
    if given.top < 1:
        raise ParamsError(f"--top {given.top} shows nothing", "give 1 or more")
    paths = list(expand(given.images))
    if not paths:
        raise WorkspaceError(
            f"there are no images in {', '.join(given.images)}",
            "name image files; a folder is searched for names like *.jpg, *.png",
        )
    classifier, model = model_resolver.load(given.model)
    explained: list[dict[str, Any]] = []
    write = (_Json if given.json else _Csv if given.csv else _Table)(classifier.classes, model, given.top, paths)
    failed = 0
    for row in answers(classifier, paths):
        failed += bool(row["error"])
        if given.explain_to and not row["error"]:
            explained.append(row)
        write.row(row)
    if explained:
        explain(classifier, explained, given.explain_to, model["said"], given.explain_by or "")
    write.end()
    if explained:
        print(f"heat maps: {given.explain_to}/index.html", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(paths)} could not be read", file=sys.stderr)
    return int(failed > 0)


def expand(given: list[str]) -> Iterator[Path]:
    """Yield the files that are meant, each once: folders are searched in the order of names, a glob may match nothing."""
    seen = set()
    for name in given:
        for path in _meant(name):
            if path not in seen:
                seen.add(path)
                yield path


def _meant(name: str) -> Iterator[Path]:
    path = Path(name).expanduser()
    if name == "-":
        yield from (Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip())
    elif path.is_dir():
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
            yield from (
                Path(folder, file) for file in sorted(files) if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES
            )
    elif not path.exists() and glob.has_magic(name):
        for found in sorted(glob.glob(str(path), recursive=True)):
            yield from _meant(found)
    else:
        yield path


def answers(classifier: Classifier, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row for each file: `path`, `label`, `confidence`, `probabilities` by class, and `error` and `remedy` instead."""
    from darkroom.core.progress import Progress
    from darkroom.data.quarantine_reasons import REASONS, REMEDIES

    with ExitStack() as stack:
        progress = stack.enter_context(Progress("predict", len(paths), "images")) if len(paths) > AT_ONCE else None
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            contents = [_read(path) for path in some]
            given = iter(classifier.files([content for content in contents if isinstance(content, bytes)]))
            for path, content in zip(some, contents, strict=True):
                row: dict[str, Any] = {"path": str(path), "label": None, "confidence": None, "probabilities": None}
                answer = next(given) if isinstance(content, bytes) else None
                if answer is None:
                    yield {**row, "error": content, "remedy": "correct the name, or give yourself the right to read it"}
                elif answer.probabilities is None:
                    yield {**row, "error": REASONS[answer.error], "remedy": REMEDIES[answer.error]}
                else:
                    shares = dict(zip(classifier.classes, map(float, answer.probabilities), strict=True))
                    label = max(shares, key=lambda name: shares[name])
                    yield {
                        **row,
                        "label": label,
                        "confidence": shares[label],
                        "probabilities": shares,
                        "error": None,
                        "remedy": None,
                    }
            if progress:
                progress.advance(len(some))


def explain(classifier: Classifier, rows: list[dict[str, Any]], folder: Path, model: str, method: str = "") -> None:
    """Write heat maps of the images of these rows, and note in each row where its picture is."""
    import numpy as np

    from darkroom.core.progress import Progress
    from darkroom.data.decoding import decode
    from darkroom.inference import explanation

    wanted = classifier.checkpoint.preprocessing
    with explanation.Page(folder, len(rows), model) as page, Progress("explain", len(rows), "images") as progress:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            contents = [Path(row["path"]).read_bytes() for row in some]
            seen = [decode(content, wanted.image_size, wanted.resize, wanted.background).pixels for content in contents]
            pixels = np.stack([item for item in seen if item is not None])
            targets = [classifier.classes.index(row["label"]) for row in some]
            page.add(some, pixels, *explanation.heat(classifier.network, pixels, targets, method))
            progress.advance(len(some))


def _read(path: Path) -> bytes | str:
    """Return a file's bytes, or why it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return (getattr(error, "strerror", None) or str(error)).lower()


class _Table:
    def __init__(self, classes: tuple[str, ...], model: dict[str, Any], top: int, paths: list[Path]) -> None:
        self.top, self.model = min(top, len(classes)), model
        self.width = min(max(len(printable(str(path))) for path in paths), 80)
        self.label = max(len(printable(name)) for name in classes)

    def row(self, row: dict[str, Any]) -> None:
        path = printable(row["path"]).ljust(self.width)
        if row["error"]:
            print(f"{path}  error: {row['error']}; {row['remedy']}")
        else:
            best = sorted(row["probabilities"].items(), key=lambda item: -item[1])[: self.top]
            print(path, *(f"{printable(name).ljust(self.label)} {share:6.1%}" for name, share in best), sep="  ")

    def end(self) -> None:
        print(f"by {self.model['said']}", file=sys.stderr)


class _Json:
    def __init__(self, classes: tuple[str, ...], model: dict[str, Any], top: int, paths: list[Path]) -> None:
        self.model = {key: value for key, value in model.items() if key != "said"} | {"classes": list(classes)}
        self.rows: list[dict[str, Any]] = []

    def row(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def end(self) -> None:
        print(json.dumps({"model": self.model, "predictions": self.rows}, indent=2))


class _Csv:
    def __init__(self, classes: tuple[str, ...], model: dict[str, Any], top: int, paths: list[Path]) -> None:
        self.classes, self.by = classes, model["version"] or model["name"]
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        self.writer.writerow(["path", "label", "confidence", "error", "model", "checkpoint_sha256", *classes])
        self.sha256 = model["checkpoint_sha256"]

    def row(self, row: dict[str, Any]) -> None:
        shares = [row["probabilities"][name] for name in self.classes] if row["probabilities"] else [""] * len(self.classes)
        path = row["path"].encode("utf-8", "backslashreplace").decode()  # a name need not be text
        known = [path, row["label"] or "", "" if row["confidence"] is None else row["confidence"], row["error"] or ""]
        self.writer.writerow([*known, self.by, self.sha256, *shares])

    def end(self) -> None:
        pass

"""What the lab's commands share on their way in and out: an image from a file, and the place of a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.core.errors import ParamsError, SourceError

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path("reports/lab")


def parser(command: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows where the picture goes."""
    made = argparse.ArgumentParser(f"darkroom lab {command}", description=about)
    standard = FOLDER / f"{command}.png"
    made.add_argument("--out", type=Path, metavar="FILE.png", default=standard, help=f"the picture; default: {standard}")
    made.add_argument("--overwrite", action="store_true", help="also what is not an earlier picture of the lab")
    return made


def check(given: argparse.Namespace, *beside: str) -> None:
    """Refuse a place for the picture, or for the files beside it, that holds something else; before the work is done."""
    from darkroom.lab import drawing

    drawing.check(given.out, beside, given.overwrite)


def write(given: argparse.Namespace, picture: np.ndarray, beside: dict[str, str] | None = None) -> None:
    """Write the picture and the texts beside it, by suffix, and say where."""
    from darkroom.lab import drawing

    drawing.save(given.out, picture, beside)
    for suffix, said in ((".png", "picture"), (".csv", "numbers"), (".html", "page")):
        if suffix == ".png" or suffix in (beside or {}):
            print(f"{said:<8} {given.out.with_suffix(suffix)}")


def decoded(path: Path, size: int, resize: str, background: tuple[int, int, int]) -> Any:
    """Return an image file as `data.decoding` decodes it; raises SourceError where it cannot be read."""
    from darkroom.data.decoding import decode
    from darkroom.data.quarantine_reasons import REASONS, REMEDIES

    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(f"{path}: {why}", "name an image file that you may read") from error
    made = decode(content, size, resize, background)
    if made.whole is None:
        raise SourceError(f"{path}: {REASONS[made.reason]}", REMEDIES[made.reason])
    return made


def whole(path: Path, most: int) -> np.ndarray:
    """Return an image file as it is, (H, W, 3) uint8, at most `most` pixels a side."""
    from darkroom.lab import drawing

    if most < 1:
        raise ParamsError(f"--size {most} shows nothing", "give 1 or more")
    pixels = decoded(path, most, "crop", (255, 255, 255)).whole
    return drawing.fitted(pixels, most) if max(pixels.shape[:2]) > most else pixels


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as CSV."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()

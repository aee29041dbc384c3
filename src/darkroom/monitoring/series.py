"""Series of arriving images, such as a burst of one scene: their images are alike, and count once in drift tests.

Images are of one series if they were taken within minutes of its first one, or are near duplicates within an
hour of it: by the fingerprints that `ingest` uses, or by embeddings that are nearer to each other than those of
pictures of the reference are. The hour bounds a series: a camera that shows the same picture all day makes many,
so that this is noticed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby, pairwise

import numpy as np
from PIL import Image

from darkroom.core import machine_limits
from darkroom.data import decoding, duplicates
from darkroom.data.fingerprints import SUMMARY
from darkroom.monitoring.prediction_log import LogRow

MINUTES = 5.0  # in which images are taken for one series
SPAN = 3600.0  # seconds from the first image of a series to its last near duplicate
CLOSEST = 0.05  # share of the reference images whose nearest neighbour is nearer than near duplicates are
COPIED, PACE = 10, 1.0  # more files than this, each within so many seconds of the one before, were copied together
_EXIF, _TAKEN, _FRACTION, _OFFSET = 0x8769, 0x9003, 0x9291, 0x9011  # tags: the block, and time, subsecond, zone in it


@dataclass(frozen=True)
class Closeness:
    """The largest distance between embeddings of near duplicates, on features divided by `scale` (D,)."""

    scale: np.ndarray
    distance: float


def closeness(reference: np.ndarray) -> Closeness:
    """Return how close the embeddings of near duplicates are: closer than those of independent pictures (N ≥ 2, D) are,
    but for the closest twentieth.

    This is relative, since embeddings of a network that has learnt few classes lie in tight clusters.
    """
    scale = np.maximum(reference.std(0), 1e-3 * max(float(reference.std()), 1e-12))
    squares = _squared_distances(reference / scale)
    np.fill_diagonal(squares, np.inf)
    return Closeness(scale, float(np.quantile(np.sqrt(squares.min(1)), CLOSEST)))


def taken_at(content: bytes) -> float | None:
    """Return when a camera took the image in a file, by its EXIF, in seconds since 1970; None where it does not say.

    Without a time zone it is taken for UTC: only differences matter.
    """
    try:
        with Image.open(io.BytesIO(content), formats=decoding.FORMATS) as image:
            exif = image.getexif().get_ifd(_EXIF)
        moment = datetime.strptime(str(exif[_TAKEN]).strip(" \0"), "%Y:%m:%d %H:%M:%S")
        offset, fraction = str(exif.get(_OFFSET, "")).strip(" \0"), str(exif.get(_FRACTION, "")).strip(" \0")
        sign, hours, minutes = (-1 if offset[:1] == "-" else 1), offset[1:3], offset[4:6]
        minutes_east = sign * (60 * int(hours) + int(minutes)) if hours.isdigit() and minutes.isdigit() else 0
        zone = timezone(timedelta(minutes=minutes_east))
        return moment.replace(tzinfo=zone).timestamp() + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
    except Exception as error:  # the picture is readable, its EXIF need not be
        machine_limits.check(error)
        return None


def assign(
    new: Sequence[LogRow], earlier: Sequence[LogRow], minutes: float = MINUTES, close: Closeness | None = None
) -> None:  # fmt: skip
    """Write into each new row the series that it belongs to: one of the earlier rows', or a new one.

    With `minutes` 0 times tell nothing, and near duplicates alone are of one series; without `close` by fingerprints alone.
    """
    rows = sorted((row for row in (*earlier, *new) if not row.error), key=lambda row: (_time(row), row.path))
    clusters = _clusters(rows, close)
    copied = _copied_together(rows)
    starts: dict[str, float] = {}
    of_cluster: dict[int, str] = {}  # the newest series of near duplicates
    current = ""  # the newest series of images whose times are known
    for row, cluster, is_copied in zip(rows, clusters, copied, strict=True):
        time, is_timed = _time(row), minutes > 0 and not is_copied
        if not row.series:
            alike = of_cluster.get(cluster, "")
            if alike and time - starts[alike] <= SPAN:
                row.series = alike
            elif is_timed and current and time - starts[current] <= 60 * minutes:
                row.series = current
            else:
                row.series = f"{row.sha256[:12]}-{round(time)}"
        starts.setdefault(row.series, time)
        of_cluster[cluster] = row.series
        if is_timed:
            current = row.series


def _time(row: LogRow) -> float:
    return row.changed / 1e9 if row.taken is None else row.taken


def _copied_together(rows: Sequence[LogRow]) -> list[bool]:
    """Tell for each row, in the order of time, whether its time is that of a copy: no camera writes so many so fast."""
    copied = [False] * len(rows)
    untimed = [i for i, row in enumerate(rows) if row.taken is None]
    runs = np.cumsum([0, *(_time(rows[i]) - _time(rows[j]) > PACE for j, i in pairwise(untimed))])
    for _, members in groupby(zip(runs.tolist(), untimed, strict=False), key=lambda pair: pair[0]):
        run = [i for _, i in members]
        for i in run if len(run) > COPIED else ():
            copied[i] = True
    return copied


def _clusters(rows: Sequence[LogRow], close: Closeness | None) -> list[int]:
    """Return a number for each row, which near duplicates and files of the same bytes share."""
    clusters = duplicates.Clusters(len(rows))
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        clusters.join(first.setdefault(row.sha256, i), i)
    described = [i for i, row in enumerate(rows) if row.fingerprint and len(row.fingerprint) == SUMMARY.itemsize]
    summaries = np.frombuffer(b"".join(rows[i].fingerprint or b"" for i in described), SUMMARY)

    def read(numbers: np.ndarray, detailed: bool = False) -> np.ndarray:  # details tell apart labels, which are all equal here
        return summaries[numbers]

    for i, j in duplicates.find([""] * len(described), read).pairs:
        clusters.join(described[i], described[j])
    for i, j in _close_pairs(rows, close) if close else ():
        clusters.join(i, j)
    return clusters.roots().tolist() if len(rows) else []


def _close_pairs(rows: Sequence[LogRow], close: Closeness) -> list[tuple[int, int]]:
    """Return the pairs of rows, by their numbers, whose embeddings are close and whose times are within an hour."""
    embedded = [i for i, row in enumerate(rows) if row.embedding is not None]
    if len(embedded) < 2:
        return []
    times = np.array([_time(rows[i]) for i in embedded])
    near = _squared_distances(np.array([rows[i].embedding for i in embedded]) / close.scale) < close.distance**2
    first, second = np.nonzero(np.triu(near & (np.abs(times[:, None] - times) <= SPAN), 1))
    return [(embedded[i], embedded[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]


def _squared_distances(rows: np.ndarray) -> np.ndarray:
    squares = (rows.astype(np.float64) ** 2).sum(1)
    return np.maximum(squares[:, None] + squares - 2 * rows.astype(np.float64) @ rows.T, 0)


def representatives(rows: Sequence[LogRow]) -> list[LogRow]:
    """Return one row of each series, in the order of the rows: the one whose hash is the least, which is as good as drawn.

    A row of an earlier version of the log, without a series, is its own.
    """
    chosen: dict[str, LogRow] = {}
    for row in rows:
        name = row.series or row.path
        if name not in chosen or row.sha256 < chosen[name].sha256:
            chosen[name] = row
    kept = set(map(id, chosen.values()))
    return [row for row in rows if id(row) in kept]

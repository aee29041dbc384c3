"""The results of drift checks, one line of JSON each: `history.jsonl` beside the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from darkroom.core import strict_json
from darkroom.monitoring.drift import DriftTest
from darkroom.monitoring.expected_accuracy import ExpectedAccuracy
from darkroom.monitoring.prediction_log import LogRow

FILE = "history.jsonl"
OLD_KEYS = {"said": "description", "words": "summary", "asked": "settings", "least": "min_images"}  # of earlier versions
REASONS = {
    "embeddings": "their embeddings differ ({size:.0%} are told apart from the reference, 50% is chance)",
    "classes": "other classes are predicted ({size:.0%} of the shares have moved)",
    "confidence": "the confidence is lower (by {size:.1%} on average)",
}


@dataclass(frozen=True)
class CheckSettings:
    """The options of a check, and the file of the log that was the newest one."""

    folders: list[str]
    window: int
    min_images: int
    alpha: float
    embeddings: float
    classes: float
    confidence: float
    log: str
    series_minutes: float = 0.0


@dataclass(frozen=True)
class DriftCheck:
    """The result of a check.

    `new` and `unreadable` count files since the last check, `images` and `series` those that were compared with
    the reference at the time `tested`, and `level` is the significance level. Where not enough series have arrived
    since, the tests are those of an earlier check, and `waiting` is the number of series until the next one.
    `flags` counts the images with each fault. Before the first test, `tests` is empty.
    """

    time: str  # ISO 8601, UTC
    model: str
    version: str
    description: str
    checkpoint_sha256: str
    new: int
    unreadable: int
    images: int
    min_images: int
    flags: dict[str, int]
    drifted: bool
    tests: list[DriftTest]
    summary: str
    settings: CheckSettings
    series: int = 0
    level: float = 0.0
    tested: str = ""  # ISO 8601, UTC; empty in lines of earlier versions
    waiting: int = 0
    expected_accuracy: ExpectedAccuracy | None = None  # missing in lines of earlier versions

    @property
    def is_test(self) -> bool:
        """Whether this check itself compared images with the reference."""
        return bool(self.tests) and self.tested in ("", self.time)

    @property
    def tested_at(self) -> str:
        """When the images were compared with the reference."""
        return self.tested or self.time


_CHECK = TypeAdapter(DriftCheck)


def _with_new_keys(content: dict[str, Any]) -> dict[str, Any]:
    return {OLD_KEYS.get(key, key): value for key, value in content.items()}


def read(folder: Path) -> list[DriftCheck]:
    """Return the checks, oldest first; a damaged line is left out."""
    checks = []
    for line in (folder / FILE).read_bytes().splitlines() if (folder / FILE).exists() else ():
        try:
            checks.append(_CHECK.validate_python(strict_json.loads(line.decode(), object_hook=_with_new_keys)))
        except (ValueError, RecursionError):  # the machine went off during the write
            continue
    return checks


def append(folder: Path, check: DriftCheck) -> None:
    """Add a check."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            cut = file.read(1) != b"\n"
            file.write(b"\n" * cut)  # a half line must not make this one unreadable
        file.write(strict_json.dumps(asdict(check), ensure_ascii=False).encode() + b"\n")


def count_flags(rows: Iterable[LogRow]) -> dict[str, int]:
    """Return the number of images with each fault, the most frequent first."""
    return dict(Counter(flag for row in rows for flag in row.flags or []).most_common())


def summarize(images: int, series: int, min_series: int, tests: list[DriftTest]) -> str:
    """Return the result of a check in one sentence; `series` are the independent ones among the images."""
    compared = f"{images} images" + (f" in {series} series" if series < images else "")
    if not tests:
        return f"{compared} are too few to test for drift: at least {min_series}{' series' * (series < images)} are needed"
    reasons = [REASONS[test.name].format(size=test.size) for test in tests if test.drifted]
    return f"drift in the last {compared}: {'; '.join(reasons)}" if reasons else f"no drift in the last {compared}"

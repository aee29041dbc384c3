"""Series of images count once: near duplicates, and images taken within minutes."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from darkroom.data.decoding import decode
from darkroom.data.fingerprints import SUMMARY, fingerprint
from darkroom.data.quality import examine
from darkroom.monitoring import drift, levels, series
from darkroom.monitoring.drift import DriftTest, Limits
from darkroom.monitoring.history import CheckSettings, DriftCheck
from darkroom.monitoring.prediction_log import LogRow
from darkroom.monitoring.reference import HeldOut, Outputs, compute

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def row(number: int, seconds: float, taken: bool = False, summary: bytes | None = None) -> LogRow:
    """Return the row of an image of this time, which the camera wrote into the file or the system beside it."""
    return LogRow(
        NOW, f"{number:04}.png", 1, 10**9 if taken else round(seconds * 1e9), "m", "1", "a", f"{number:012}".ljust(64, "0"),
        taken=seconds if taken else None, fingerprint=summary,
    )  # fmt: skip


def scene(seed: int, crop: int = 0, gain: float = 1.0) -> bytes:
    """Return the fingerprint of a picture with edges, cropped and brightened."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((192, 144), Image.Resampling.BICUBIC)).astype(float)
    for _ in range(12):
        top, left, height, width = rng.integers((0, 0, 8, 8), (100, 150, 28, 28))
        picture[top : top + height, left : left + width] = rng.integers(256)
    grey = (picture[crop:, crop:] * gain).clip(0, 255).astype(np.uint8)
    measured = examine(np.repeat(grey[..., None], 3, 2))
    assert measured is not None
    return fingerprint(measured[1])[list(SUMMARY.names or ())].astype(SUMMARY).tobytes()


def groups(rows: list[LogRow]) -> list[list[int]]:
    """Return the numbers of the images of each series."""
    named: dict[str, list[int]] = {}
    for item in rows:
        named.setdefault(str(item.series), []).append(int(item.path[:4]))
    return sorted(named.values())


@pytest.mark.parametrize("taken", [True, False])
def test_images_taken_within_minutes_are_a_series(taken):
    """Images are of one series up to five minutes after its first one, by the camera's time or the file's, not for ever."""
    rows = [row(i, 60.0 * minute, taken) for i, minute in enumerate((0, 2, 4, 7, 9, 60))]
    series.assign(rows, [])
    assert groups(rows) == [[0, 1, 2], [3, 4], [5]]
    later = [row(6, 61 * 60.0, taken)]
    series.assign(later, rows)
    assert later[0].series == rows[5].series


def test_files_that_were_copied_together_are_no_series():
    """Of many files written within seconds of each other the time tells nothing, unless the camera wrote it."""
    rows = [row(i, 1000 + 0.1 * i) for i in range(30)]
    series.assign(rows, [])
    assert len(groups(rows)) == 30
    rows = [row(i, 1000 + 0.1 * i, taken=True) for i in range(30)]
    series.assign(rows, [])
    assert len(groups(rows)) == 1
    rows = [row(i, 1000 + 10 * i) for i in range(30)]
    series.assign(rows, [], minutes=0)
    assert len(groups(rows)) == 30


def test_near_duplicates_are_a_series_within_an_hour():
    """Crops of one scene that were copied together are one series, other scenes are not; a camera that shows the same picture
    all day makes a series an hour."""
    rows = [row(3 * i + j, 1000.0, summary=scene(i, 6 * j, 1 - 0.03 * j)) for i in range(20) for j in range(3)]
    series.assign(rows, [])
    assert groups(rows) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(20)]
    frozen = [row(i, 600.0 * i, summary=scene(0)) for i in range(144)]
    series.assign(frozen[:70], [])
    series.assign(frozen[70:], frozen[:70])
    assert 20 <= len(groups(frozen)) <= 24


def test_close_embeddings_are_a_series_within_an_hour():
    """Images whose embeddings are closer than those of the reference's pictures are one series, if an hour lies between them at
    most; of independent pictures few are, also where a network knows two tight classes."""
    rng = np.random.default_rng(0)
    for spread in (1.0, 0.01):  # within a class, beside a distance of about 1 between the classes
        pictures = spread * rng.normal(size=(400, 16)) + np.repeat(np.eye(2, 16), 200, 0)
        order = rng.permutation(400)
        close = series.closeness(pictures[order[:300]])
        arrived = [row(i, 1000.0) for i in range(100)]
        copies = [row(100 + i, 1000.0 + 7200 * (i % 2)) for i in range(40)]
        for item, picture in zip(arrived, order[300:], strict=True):
            item.embedding = pictures[picture]
        for item, original in zip(copies, arrived, strict=False):
            item.embedding = np.asarray(original.embedding) + 0.05 * spread * rng.normal(size=16)
        series.assign([*arrived, *copies], [], close=close)
        assert len({item.series for item in arrived}) >= 95
        alike = [item.series == original.series for item, original in zip(copies, arrived, strict=False)]
        assert alike == [True, False] * 20


def test_a_later_image_joins_no_earlier_series():
    """Two pictures are two series, also where an image of hours later lies between them."""
    rng = np.random.default_rng(0)
    close = series.closeness(rng.normal(size=(300, 16)))
    step = close.scale * close.distance / 4  # the length of (1, …, 1) / 4 is 1
    rows = [row(0, 1000.0), row(1, 1000.0), row(2, 1000.0 + 7200)]
    for item, place in zip(rows, (0.0, 1.5, 0.75), strict=True):
        item.embedding = place * step
    series.assign(rows, [], minutes=0, close=close)
    assert groups(rows) == [[0], [1], [2]]
    rows = [row(0, 1000.0), row(1, 1000.0)]
    for item, place in zip(rows, (0.0, 0.75), strict=True):
        item.embedding = place * step
    series.assign(rows, [], minutes=0, close=close)
    assert groups(rows) == [[0, 1]]


def test_one_image_of_each_series_counts():
    """Each series has one representative, and a row without a series is its own."""
    rows = [row(i, 0.0) for i in range(6)]
    for item, name in zip(rows, ("a", "a", "b", "a", None, None), strict=True):
        item.series = name
    assert [item.path for item in series.representatives(rows)] == ["0000.png", "0002.png", "0004.png", "0005.png"]


def test_the_time_of_the_camera_is_read():
    """EXIF's original time, with its fraction and zone; a file without one, or a broken one, has none."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2026:01:31 12:00:00", 0x9291: "25", 0x9011: "+02:00"})
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    assert series.taken_at(file.getvalue()) == datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp() + 0.25
    assert decode(file.getvalue(), 8, "crop", (0, 0, 0)).pixels is not None
    bare = io.BytesIO()
    Image.new("RGB", (8, 8)).save(bare, "PNG")
    assert series.taken_at(bare.getvalue()) is None
    assert series.taken_at(b"broken") is None


def outputs(rng: np.random.Generator, scenes: int, length: int, shift: float = 0.0) -> tuple[Outputs, list[LogRow]]:
    """Return outputs on series of images that hardly differ, and their rows."""
    count = scenes * length
    scene_of = np.arange(count) // length
    embeddings = rng.normal(shift, 1, (scenes, 8))[scene_of] + rng.normal(0, 0.1, (count, 8))
    confidence = rng.beta(4, 1, scenes)[scene_of]
    rows = [row(i, 0.0) for i in range(count)]
    for item, number in zip(rows, scene_of.tolist(), strict=True):
        item.series = str(number)
    return Outputs(embeddings, rng.integers(0, 4, scenes)[scene_of], confidence), rows


def take(all_outputs: Outputs, rows: list[LogRow]) -> Outputs:
    numbers = [int(item.path[:4]) for item in rows]
    return Outputs(*(values[numbers] for values in vars(all_outputs).values()))


@pytest.mark.parametrize("length", [1, 3, 10])
def test_series_raise_no_false_alarm(length):
    """Of 60 images of 20 scenes, and of series of 3 and of 10, the smallest of the three p-values is as often small as of
    independent images: below 0.05 in about 5% of 100 draws."""
    rng = np.random.default_rng(length)
    alarms = 0
    for seed in range(100):
        reference, _ = outputs(rng, 150, 1)
        arrived, rows = outputs(rng, 20, length)
        tests, _ = drift.compare(reference, take(arrived, series.representatives(rows)), 4, Limits(), 0.05, seed)
        alarms += min(test.corrected for test in tests) < 0.05
    assert alarms <= 11  # binomial: 99.5%


def check(tested: datetime, drifted: bool = False, **settings: float) -> DriftCheck:
    """Return the line of a test at a time."""
    tests = [DriftTest("classes", 0.3, 0.2, 0.001, 0.003, drifted)]
    values = {"window": 100, "min_images": 20, "alpha": 0.05, "embeddings": 0.65, "classes": 0.2, "confidence": 0.1} | settings
    return DriftCheck(
        tested.isoformat(), "m", "1", "", "a", 0, 0, 20, 20, {}, drifted, tests, "", CheckSettings(["/in"], **values, log="x"),
        tested=tested.isoformat(),
    )  # fmt: skip


def rows_of(count: int, times: datetime, length: int = 3) -> list[LogRow]:
    """Return the rows of series that were logged at a time."""
    rows = [row(i, 0.0) for i in range(count * length)]
    for i, item in enumerate(rows):
        item.series, item.time = str(i // length), times
    return rows


def test_a_test_waits_for_new_series():
    """The first test needs `min_images` series, another one as many new ones; other settings test at once."""
    settings = check(NOW).settings
    assert levels.plan([], "a", settings, rows_of(19, NOW), NOW).waiting == 1
    assert levels.plan([], "a", settings, rows_of(20, NOW), NOW).level > 0
    past, later = [check(NOW - timedelta(hours=2))], NOW - timedelta(hours=1)
    earlier = rows_of(20, NOW - timedelta(hours=3))
    for item in earlier:
        item.series = f"old {item.series}"
    assert levels.plan(past, "a", settings, [*earlier, *rows_of(19, later)], NOW).waiting == 1
    assert levels.plan(past, "a", settings, [*earlier, *rows_of(20, later)], NOW).level > 0
    assert levels.plan(past, "b", settings, earlier, NOW).level > 0
    assert levels.plan(past, "a", check(NOW, window=50).settings, earlier, NOW).level > 0


@pytest.mark.slow
def test_the_tests_of_a_month_share_the_level():
    """The levels of any tests within 30 days add up to `alpha` at most, whenever they are made, and whatever was tested before."""
    assert sum(levels.level(0.05, k) for k in range(2000)) == pytest.approx(0.05)
    rng = np.random.default_rng(0)
    times = sorted(NOW + timedelta(hours=float(hours)) for hours in rng.uniform(0, 24 * 70, 900))
    tests: list[tuple[datetime, float]] = []
    for time in times:
        earlier = levels.count_recent((moment.isoformat() for moment, _ in tests), time)
        tests.append((time, levels.level(0.05, earlier)))
    for start in times[::25]:
        within = [level for moment, level in tests if start <= moment < start + timedelta(days=levels.DAYS)]
        assert sum(within) <= 0.05 + 1e-12


def test_the_reference_has_one_image_of_each_group():
    """Copies of a picture in validation and test count once in the reference, and each group has the same chance."""
    images = [np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.arange(40, 60, dtype=np.uint8).reshape(20, 1, 1, 1)]
    names = [[f"g{i // 4}" for i in range(40)], ["g0"] * 10 + [f"t{i}" for i in range(10)]]

    def examine(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, None]:
        return batch.reshape(-1, 1).astype(np.float32), np.ones((len(batch), 2)) / 2, None

    flat = [name for part in names for name in part]
    labels = [np.zeros(40, int), np.zeros(20, int)]
    for seed in range(5):
        drawn = compute(examine, HeldOut(images, labels, names), seed).embeddings[:, 0].astype(int)
        assert sorted(flat[i] for i in drawn) == sorted(set(flat))

"""Cases from the field: what stands behind a JPEG, deep pictures, memory, old SQLite."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
from functools import cache
from itertools import product

import cv2
import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import decode_cache, decoding, jpeg_markers, memory_budget
from darkroom.data import ingest as room
from darkroom.data.decode_cache import DecodeCache
from darkroom.data.decoding import MAX_SCANS, decode
from darkroom.data.file_sample import draw_files
from darkroom.data.manifest import ImageFacts
from darkroom.data.memory_budget import MemoryBudget
from darkroom.data.sources import SourceFile
from tests.data.test_decoding import BLACK, detailed, encoded
from tests.data.test_ingest import options

PICTURE = detailed(160, 120)


def jpeg(progressive: bool = False, mode: str = "RGB", **settings) -> bytes:
    return encoded(PICTURE.convert(mode), "JPEG", quality=90, progressive=progressive, **settings)


@cache
def trailer(kind: str) -> bytes:
    """Return what phones and cameras write behind a JPEG; random bytes hold hundreds of FF DA."""
    noise = np.random.default_rng(0).bytes(8 << 20)
    if kind == "video":
        return struct.pack(">I", 24) + b"ftypmp42\0\0\0\0mp42isom" + struct.pack(">I", len(noise)) + b"mdat" + noise
    if kind == "raw":
        return b"@BRCM" + noise
    if kind == "scans":
        return b"\xff\xda" * 1000
    if kind == "jpeg":  # a gain map or a depth map
        return jpeg(True) * 20
    return b"Exif\0MPF\0" + b"\0" * 5000


TRAILERS = ("video", "raw", "scans", "jpeg", "words")


@pytest.mark.parametrize("kind", TRAILERS)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_ends_at_its_own_end(kind, progressive):
    """What follows the EOI marker changes nothing of a picture, whatever it holds."""
    alone, followed = (decode(content, 64, "crop", BLACK) for content in (jpeg(progressive), jpeg(progressive) + trailer(kind)))
    assert alone.reason == followed.reason == ""
    assert alone.pixel_hash == followed.pixel_hash
    assert (alone.flags, alone.format) == (followed.flags, followed.format)


def test_embedded_thumbnails_are_no_scans():
    """A thumbnail in EXIF, itself a JPEG, and application segments full of markers are neither end nor scans."""
    exif = Image.Exif()
    exif[0x010E] = "x"
    segment = b"\xff\xeb" + struct.pack(">H", 2 + 60_000) + b"\xff\xda\xff\xd9" * 15_000
    content = jpeg(exif=exif.tobytes() + jpeg(True))
    content = content[:2] + segment + content[2:]
    layout = jpeg_markers.walk(content, MAX_SCANS)
    assert (layout.scans, layout.end, layout.has_end) == (1, len(content), True)
    assert decode(content, 64, "crop", BLACK).pixel_hash == decode(jpeg(), 64, "crop", BLACK).pixel_hash


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"mode": "L"}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_the_last_bytes_may_be_missing(settings):
    """A JPEG without its last bytes is used, with or without a trailer; only where data are missing it is flagged."""
    content = jpeg(**settings)
    undamaged = decode(content, 64, "crop", BLACK)
    for cut, kind in product([1, 2, 4, 8], ["", *TRAILERS]):
        read = decode(content[:-cut] + (trailer(kind) if kind else b""), 64, "crop", BLACK)
        assert read.reason == "", (cut, kind)
        if cut <= 2 and not kind:
            assert (read.pixel_hash, read.flags) == (undamaged.pixel_hash, ()), cut
        elif not kind:
            assert read.flags == ("damaged",), cut
        assert np.abs(read.upright.astype(int) - undamaged.upright).mean() < 1, (cut, kind)


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_jpeg_that_lacks_more_is_truncated(settings):
    """A picture that lacks more than half of its data, or whole scans, is quarantined, also where it ends between two scans."""
    content = jpeg(**settings)
    cuts = [len(content) * 2 // 5, *([content.rindex(b"\xff\xda")] if settings.get("progressive") else [])]
    for cut in cuts:
        assert decode(content[:cut], 64, "crop", BLACK).reason == "truncated"
        assert decode(content[:cut] + b"\xff\xff", 64, "crop", BLACK).reason == "truncated"


@pytest.mark.parametrize("trick", ["plain", "no end", "tables between", "fill bytes", "behind junk"])
def test_a_bomb_of_scans_stays_refused(trick):
    """More than a hundred scans are counted however they are written, and never decoded."""
    content = jpeg(True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    between = {"tables between": b"\xff\xfe\0\4ab", "fill bytes": b"\xff" * 50, "behind junk": b"\0\1\2\3"}.get(trick, b"")
    bomb = content[:-2] + (between + scan) * 300 + (b"" if trick == "no end" else b"\xff\xd9")
    assert decode(bomb, 64, "crop", BLACK).reason == "too_many_scans"


def test_a_long_run_of_fill_bytes_takes_no_time():
    """The walk is linear in the bytes, also of hostile ones."""
    content = jpeg()
    hostile = content[:-2] + b"\xff" * 5_000_000 + b"\0"
    assert decode(hostile, 64, "crop", BLACK).reason == ""


GREY = np.asarray(PICTURE.convert("L"))
RGB = np.asarray(PICTURE)


def deep(values: np.ndarray, kind: str) -> bytes:
    """Return a PNG or TIFF of 16 bits or floating-point values a channel."""
    return cv2.imencode(kind, values if values.ndim == 2 else values[..., ::-1])[1].tobytes()


def read(content: bytes) -> np.ndarray:
    decoded = decode(content, 64, "crop", BLACK)
    assert decoded.reason == ""
    return decoded.upright.astype(int)


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("eight", [GREY, RGB], ids=["grey", "rgb"])
class TestDeepPictures:
    """More than 8 bits a channel, in grey and in colour, as PNG and TIFF."""

    @pytest.mark.parametrize("factor", [257, 1])
    def test_8_bits_in_16_are_the_8_bits(self, eight, kind, factor):
        """An 8-bit picture that was stored in 16 bits, widened or not, has the pixels of the 8-bit one."""
        assert (read(deep(eight.astype(np.uint16) * factor, kind)) == read(encoded(Image.fromarray(eight)))).all()

    @pytest.mark.parametrize("bits", [10, 12, 14, 16])
    def test_every_depth_fills_the_range(self, eight, kind, bits):
        """10, 12 and 14 bits in 16 look as 16 do."""
        noise = np.random.default_rng(0).integers(0, 2 ** (bits - 8), eight.shape)
        values = (eight.astype(np.uint16) << (bits - 8)) + noise.astype(np.uint16)
        assert np.abs(read(deep(values, kind)) - read(encoded(Image.fromarray(eight)))).mean() < 6

    def test_one_hot_pixel_dims_nothing(self, eight, kind):
        """One pixel at the limit of the type leaves all others within two grey levels of what they were."""
        values = eight.astype(np.uint16) * 16 + 3
        hot = values.copy()
        hot[7, 9] = 65535
        difference = np.abs(read(deep(hot, kind)) - read(deep(values, kind)))
        difference[7, 9] = 0
        assert difference.max() <= 2


@pytest.mark.parametrize("eight", [GREY, RGB], ids=["grey", "rgb"])
def test_floating_point_tiffs_are_read(eight):
    """Values of any range, one of them far outside and one NaN, give the picture."""
    values = (eight / 255 * 0.01 - 3).astype(np.float32)
    values[3, 3], values[4, 4] = 1e9, np.nan
    assert np.abs(read(deep(values, ".tiff")) - read(encoded(Image.fromarray(eight)))).mean() < 6


def test_alpha_of_16_bits_lies_on_the_background():
    """A transparent 16-bit PNG is laid on the background as the 8-bit one is."""
    layer = np.dstack([RGB, np.tile(np.linspace(0, 255, RGB.shape[1]).astype(np.uint8), (len(RGB), 1))])
    wide = cv2.imencode(".png", cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257)[1].tobytes()
    one, other = (decode(content, 64, "crop", (9, 99, 199)) for content in (encoded(Image.fromarray(layer)), wide))
    assert (one.pixel_hash, one.flags) == (other.pixel_hash, other.flags)


def tiff(values: np.ndarray, orientation: int) -> bytes:
    """Return an uncompressed TIFF of RGB values, (H, W, 3) uint8 or uint16, with an orientation."""
    height, width = values.shape[:2]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = [
        (256, width),
        (257, height),
        (259, 1),
        (262, 2),
        (274, orientation),
        (277, 3),
        (278, height),
        (279, len(data)),
        (284, 1),
    ]
    count = len(tags) + 2
    bits_at = 8 + 2 + 12 * count + 4
    tags += [(258, bits_at), (273, bits_at + 6)]
    lines = [struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value) for tag, value in sorted(tags)]
    bits = struct.pack("<3H", *[8 * values.dtype.itemsize] * 3)
    return b"II*\0" + struct.pack("<IH", 8, count) + b"".join(lines) + b"\0\0\0\0" + bits + data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_upright(orientation):
    """A 16-bit TIFF is turned as Pillow turns the 8-bit one, and a grey PNG as a colour one."""
    one, other = (decode(tiff(values, orientation), 64, "crop", BLACK) for values in (RGB, RGB.astype(np.uint16) * 257))
    assert one.reason == other.reason == ""
    assert one.upright.shape == other.upright.shape
    assert one.pixel_hash == other.pixel_hash


def test_a_flat_picture_is_no_noise():
    """Noise of a few of thousands of levels stays faint, and a mask of zeros and ones is black and white."""
    noise = np.random.default_rng(0).normal(1000, 3, (80, 80)).astype(np.uint16)
    assert read(deep(noise, ".png")).std() < 40
    mask = np.zeros((40, 40), np.uint16)
    mask[5, 5] = 1
    assert set(np.unique(read(deep(mask, ".png")))) == {0, 255}
    for value, grey in ((0, 0), (65535, 255), (40000, 156)):
        assert (read(deep(np.full((20, 20), value, np.uint16), ".png")) == grey).all()


PEAK = """
import pathlib, sys
from darkroom.data import ingest
from tests.data.test_ingest import options
ingest.MAX_WHOLE = int(sys.argv[4])
source = pathlib.Path(sys.argv[1])
with ingest.ingest(source, options(source=str(source)), cache_folder=source.parent / sys.argv[2], threads=int(sys.argv[3])) as data:
    assert len(data.rows) == 24
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_whole_pictures_do_not_wait_in_memory(tmp_path):
    """Ingest takes no more than the bytes of decoding a thread, and with many threads no more than its budget."""
    side = 1600
    megabytes = memory_budget.ORDINARY * side**2 / 2**20
    for name, colour in (("small", 0), ("big", 1)):
        for label in ("cat", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(12):
                image = photograph(i + 100 * (label == "dog"))
                image = image.resize((side, side), Image.Resampling.NEAREST) if colour else image
                image.save(tmp_path / name / label / f"{i}.png", compress_level=1)

    def peak(name: str, threads: int, budget: int) -> float:
        command = [sys.executable, "-c", PEAK, str(tmp_path / name), f"{name}{threads}", str(threads), str(budget)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) / 1024

    base = peak("small", 2, 2**30)
    assert peak("big", 2, 2**30) - base < 2 * megabytes + 16
    assert peak("big", 8, int(2 * megabytes * 2**20)) - base < 2 * megabytes + 16


def test_a_picture_is_limited_by_its_sides_and_by_what_decoding_takes(monkeypatch):
    """Long sides are refused whatever their area, and formats whose decoders take more have fewer pixels."""
    line = encoded(Image.new("L", (decoding.MAX_SIDE + 1, 2)), "PNG")
    assert decode(line, 32, "crop", BLACK).reason == "too_large"
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    reasons = [decode(encoded(Image.new("RGB", (30, 30)), kind), 32, "crop", BLACK).reason for kind in ("PNG", "WEBP")]
    assert reasons == ["", "too_large"]


def test_too_little_memory_does_not_change_the_data_set(tmp_path, monkeypatch):
    """Where memory does not suffice for a picture within the limits, ingest ends and names it; exit code 75. A damaged file that
    asks for more than its size explains is quarantined.
    """
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(10):
            photograph(i + 100 * (label == "dog")).save(tmp_path / "photos" / label / f"{i}.png")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(decoding, "_decode_upright", fail)
    with room.ingest(tmp_path / "photos", options(), cache_folder=tmp_path / "cache", threads=1) as data:
        assert {row.reason for row in data.rows} == {"corrupt"}
    monkeypatch.setattr(decoding, "_check_memory", fail)
    with (
        pytest.raises(SourceError, match=r"memory to decode cat/0\.png") as caught,
        room.ingest(tmp_path / "photos", options(), cache_folder=tmp_path / "other", threads=1),
    ):
        pass
    assert caught.value.code == 75


def photograph(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).resize((64, 64))


def test_the_number_of_threads_and_the_budget_change_nothing(tmp_path, monkeypatch):
    """A budget below a single picture lets one be decoded at a time, with the same result."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(10):
            photograph(i + 100 * (label == "dog")).save(tmp_path / "photos" / label / f"{i}.png")
    results = []
    for threads, budget in ((1, 2**30), (8, 1)):
        monkeypatch.setattr(room, "MAX_WHOLE", budget)
        with room.ingest(tmp_path / "photos", options(), cache_folder=tmp_path / str(threads), threads=threads) as data:
            results.append([(row.path, row.split, row.pixel_hash) for row in data.rows])
    assert results[0] == results[1]


def test_a_budget_is_never_exceeded():
    """Threads hold no more bytes than the budget has, unless one alone needs more; all get theirs in the end."""
    budget, lock, reserved, most = MemoryBudget(100), threading.Lock(), [0], []

    def work(count: int) -> None:
        with budget.reservation() as reserve:
            reserve(count)
            reserve(count)
            with lock:
                reserved[0] += count
                most.append(reserved[0])
            with lock:
                reserved[0] -= count

    threads = [threading.Thread(target=work, args=(count,)) for count in (40, 60, 30, 500, 70) * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 100
    assert all(value <= 100 or value == 500 for value in most)
    assert budget.free == 100


def test_the_cache_needs_no_new_sqlite(tmp_path, monkeypatch):
    """The index is made without STRICT, which SQLite has since 3.37, and a value of another type is no entry."""
    statements = []
    connect = decode_cache.sqlite3.connect

    def traced(*arguments, **settings):
        connection = connect(*arguments, **settings)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(decode_cache.sqlite3, "connect", traced)
    cache = DecodeCache(tmp_path, 16)
    assert not [statement for statement in statements if "STRICT" in statement.upper()]
    cache.put("a", np.zeros((16, 16, 3), np.uint8), None, ImageFacts())
    assert cache.get("a") is not None
    for column, value in (("slot", "x"), ("slot", 0.5), ("sum", "x"), ("facts", b"\xff")):
        cache.put("a", np.zeros((16, 16, 3), np.uint8), None, ImageFacts())
        cache.index.execute(f"UPDATE images SET {column} = ?", (value,))
        assert cache.get("a") is None
    cache.close()
    DecodeCache(tmp_path, 16).close()


def files(counts: dict[str, int]) -> list[SourceFile]:
    return [SourceFile(f"{label}/{i:04}.jpg", label) for label, count in counts.items() for i in range(count)]


def test_a_sample_has_the_same_share_of_each_class():
    """A draw is stratified, has the number asked for, keeps the order of the files, and is the same every time."""
    source = files({"a": 500, "b": 300, "c": 195, "d": 5})
    drawn = draw_files(source, 100, 0)
    counts = {label: sum(file.label == label for file in drawn) for label in "abcd"}
    assert counts == {"a": 50, "b": 30, "c": 19, "d": 1}
    assert drawn == draw_files(source, 100, 0) == [file for file in source if file in set(drawn)]
    assert drawn != draw_files(source, 100, 1)
    assert draw_files(source, 5000, 0) == source
    assert set(draw_files(source, 50, 0)) < set(drawn)


def test_a_sample_reads_only_what_it_needs(tmp_path, monkeypatch):
    """Of a folder ingest reads the files that were chosen, and no other."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(20):
            photograph(i + 100 * (label == "dog")).save(tmp_path / "photos" / label / f"{i}.png")
    reads = []
    read_file = room.Source.read
    monkeypatch.setattr(room.Source, "read", lambda self, file: reads.append(file.path) or read_file(self, file))
    settings = {"cache_folder": tmp_path / "cache", "choose": lambda all_: draw_files(all_, 10, 0)}
    with room.ingest(tmp_path / "photos", options(), **settings) as data:
        assert sorted(reads) == sorted(row.path for row in data.rows)
        assert len(reads) == 10
        images, labels = data.arrays("train", "val", "test", order=np.random.default_rng(0).permutation)
    assert images.shape == (10, 16, 16, 3)
    assert np.bincount(labels).tolist() == [5, 5]


def test_deep_grey_png_in_a_stream():
    """An image that Pillow made is read as one that OpenCV made."""
    stream = io.BytesIO()
    Image.fromarray(GREY.astype(np.uint16) * 16).save(stream, "PNG")
    assert (read(stream.getvalue()) == read(deep(GREY.astype(np.uint16) * 16, ".png"))).all()

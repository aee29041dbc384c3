"""Files that are made to do harm, or odd in ways that no damage is: each is accounted for, and none takes the machine."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import file_sources, folder_source, ingest, parquet_source
from darkroom.data.parquet_source import ParquetFiles
from tests.data.test_decoding import detailed, encoded
from tests.data.test_ingest import options

SIDE = 64
APP1 = b"\xff\xe1"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(seed: int, colour: int, depth: int = 8, extra: bytes = b"") -> bytes:
    """Return a PNG of noise of a colour type, of which some exist."""
    draw = np.random.default_rng(seed)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    rows = b"".join(b"\0" + draw.bytes(SIDE * channels) for _ in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg(seed: int) -> bytes:
    return encoded(detailed(SIDE, SIDE).rotate(seed), "JPEG")


def with_exif(content: bytes, exif: bytes) -> bytes:
    return content[:2] + APP1 + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + content[2:]


def with_frame(content: bytes, at: int, byte: int) -> bytes:
    """Change a byte of the header of a JPEG's frame."""
    start = content.find(b"\xff\xc0")
    return content[: start + at] + bytes([byte]) + content[start + at + 1 :]


LOOP = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)  # a directory that leads to itself
FILES = {  # by name: the content, and the reasons for which it may be quarantined; "" is accepted
    "exif of 60 kB.jpg": (with_exif(jpeg(1), np.random.default_rng(0).bytes(60_000)), {""}),
    "exif without end.jpg": (with_exif(jpeg(2), LOOP), {""}),
    "100,000 segments.jpg": (jpeg(3)[:2] + (APP1 + b"\0\3x") * 100_000 + jpeg(3)[2:], {""}),
    "profile.jpg": (encoded(detailed(SIDE, SIDE).rotate(4), "JPEG", icc_profile=bytes(300_000)), {""}),
    "frames.png": (encoded(detailed(SIDE, SIDE).rotate(5), "PNG", save_all=True, append_images=[detailed(SIDE, SIDE)] * 20), {""}),
    "colour 5.png": (png(6, 5), {"not_an_image", "corrupt"}),
    "colour 7.png": (png(7, 7), {"not_an_image", "corrupt"}),
    "3 bits.png": (png(8, 0, 3), {"not_an_image", "corrupt"}),
    "text of 100 MB.png": (png(9, 2, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000)))), {"", "corrupt"}),
    "profile of 100 MB.png": (png(10, 2, 8, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(100_000_000)))), {"", "corrupt"}),
    "lossless.jpg": (with_frame(jpeg(11), 1, 0xC3), {"corrupt", "not_an_image"}),
    "hierarchical.jpg": (with_frame(jpeg(12), 1, 0xDE), {"corrupt", "not_an_image"}),
    "12 bits.jpg": (with_frame(jpeg(13), 4, 12), {"corrupt", "not_an_image"}),
    "255 components.jpg": (with_frame(jpeg(14), 9, 255), {"corrupt", "not_an_image"}),
    "no height.jpg": (with_frame(with_frame(jpeg(15), 5, 0), 6, 0), {"corrupt", "not_an_image"}),
    "postscript.jpg": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%true) (w) file\n",
        {"not_an_image", "unread_format"},
    ),
    "svg.png": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        {"not_an_image", "unread_format"},
    ),
}


def test_odd_files_are_all_accounted_for(tmp_path):
    """Pictures with odd headers are read or have a reason; links in circles, devices and odd times of files are no traps."""
    photos = tmp_path / "photos"
    for label, shift in (("cat", 0), ("dog", 100)):
        (photos / label).mkdir(parents=True)
        for i in range(10):
            content = encoded(Image.fromarray(np.random.default_rng(shift + i).integers(0, 256, (SIDE, SIDE, 3), np.uint8)), "JPEG")
            (photos / label / f"{i}.jpg").write_bytes(content)
    for name, (content, _) in FILES.items():
        (photos / "cat" / name).write_bytes(content)
    for name, target in {"a.jpg": "b.jpg", "b.jpg": "a.jpg", "zero.jpg": "/dev/zero", "up": "..", "here": "."}.items():
        (photos / "cat" / f"link {name}").symlink_to(target)
    os.utime(photos / "cat/0.jpg", (2**33, 2**33))
    os.utime(photos / "cat/1.jpg", (-(2**31), -(2**31)))
    with ingest.ingest(photos, options(on_conflict="keep", max_quarantined=0.9), cache_folder=tmp_path / "cache") as data:
        reasons = {row.path: row.reason for row in data.rows}
    assert {name: reasons[f"cat/{name}"] for name, (_, allowed) in FILES.items() if reasons[f"cat/{name}"] not in allowed} == {}
    links = {path: reason for path, reason in reasons.items() if "link" in path}
    assert links == {
        "cat/link a.jpg": "unreadable", "cat/link b.jpg": "unreadable", "cat/link zero.jpg": "unreadable",
        "cat/link up": "linked_folder", "cat/link here": "linked_folder",
    }  # fmt: skip
    assert sum(not reason for reason in reasons.values()) >= 20
    assert len(reasons) == 20 + len(FILES) + 5


@pytest.mark.parametrize("is_endless", [False, True])
def test_a_file_may_grow_while_it_is_read_but_not_without_end(tmp_path, monkeypatch, is_endless):
    """What comes after the size that a file has is read, up to a limit: files of /proc have no size, and some no end."""
    (tmp_path / "a.jpg").write_bytes(bytes(200_000))
    monkeypatch.setattr(folder_source.os, "fstat", lambda _: SimpleNamespace(st_size=10))
    monkeypatch.setattr(folder_source, "MAX_GROWTH", 100_000 if is_endless else 300_000)
    if is_endless:
        with pytest.raises(OSError, match="after its end"):
            folder_source.Folder(tmp_path).read(str(tmp_path / "a.jpg"))
    else:
        assert folder_source.Folder(tmp_path).read(str(tmp_path / "a.jpg")) == bytes(200_000)


def test_a_folder_that_vanishes_while_it_is_listed_is_tried_again(tmp_path, monkeypatch):
    """It says so and ends with 75; nobody lacks a right."""
    (tmp_path / "cat").mkdir()
    scan = os.scandir

    def vanish(folder: str):
        if str(folder).endswith("cat"):
            raise FileNotFoundError(2, "No such file or directory")
        return scan(folder)

    monkeypatch.setattr(folder_source.os, "scandir", vanish)
    with pytest.raises(SourceError, match="is gone") as caught:
        folder_source.Folder(tmp_path).entries()
    assert caught.value.code == 75


def test_the_text_of_a_member_is_limited(tmp_path, monkeypatch):
    """A comment of gigabytes in a tar is refused from its header, before it is read into memory; a long name is not."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("cat/" + "x" * 300 + ".jpg")
        member.pax_headers = {"comment": "c" * 50_000}
        archive.addfile(member, io.BytesIO())
    with file_sources.open_files(path, tmp_path) as (_, entries):
        assert len(entries) == 1
    monkeypatch.setattr(file_sources, "MAX_TEXT", 40_000)
    with pytest.raises(SourceError, match="names and comments"), file_sources.open_files(path, tmp_path):
        pass


def test_the_rows_of_a_parquet_file_are_limited(tmp_path, monkeypatch):
    """A small file may say that it has 10⁹ rows; none of them is listed."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([b""] * 30), "label": ["a", "b"] * 15}), path)
    assert len(ParquetFiles(path, [path]).shards[0]) == 30
    monkeypatch.setattr(parquet_source, "MAX_FILES", 20)
    with pytest.raises(SourceError, match="30 rows; the limit is 20"):
        ParquetFiles(path, [path])

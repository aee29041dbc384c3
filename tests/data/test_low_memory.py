"""What a machine lacks at a moment ends the run, retryable; it never changes what is taken for data."""

from __future__ import annotations

import errno
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from darkroom.core.errors import DarkroomError, WorkspaceError
from darkroom.data import decoding, deep_pixels, file_sources, folder_source, parquet_source
from darkroom.data import ingest as room
from darkroom.data.decoding import Decoded, decode, decode_leniently
from darkroom.data.sources import open_source
from darkroom.inference import image_files
from tests.data import test_parquet_source as parquet
from tests.data import test_webdataset as webdataset_samples
from tests.data.test_decoding import BLACK, detailed, encoded
from tests.data.test_ingest import options

LACKS = [MemoryError("Unable to allocate output buffer."), *(OSError(n, "no") for n in (errno.ENOMEM, errno.EMFILE, errno.ENFILE))]


def failing(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def photos(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(10):
            detailed(24 + i, 24).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("error", LACKS)
def test_what_the_machine_lacks_is_no_damage_of_an_archive(tmp_path, monkeypatch, error):
    """A member of a zip that cannot be read for lack of memory or of open files is not taken for a damaged one."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/1.png", b"x")
        source = file_sources.Zip(tmp_path / "a.zip", archive)
        monkeypatch.setattr(zipfile.ZipFile, "open", failing(error))
        with pytest.raises((WorkspaceError, MemoryError)) as caught:
            source.read(archive.infolist()[0])
    assert isinstance(error, MemoryError) or caught.value.code == 75


@pytest.mark.parametrize("error", LACKS)
def test_what_the_machine_lacks_quarantines_no_file(photos, monkeypatch, error):
    """ingest ends with exit code 75, and so does `predict`; a file with a fault of the disk is still quarantined."""
    monkeypatch.setattr(folder_source.Folder, "read", failing(OSError(errno.EIO, "Input/output error")))
    with room.ingest(photos, options(), threads=1, cache_folder=photos.parent / "cache") as data:
        assert {row.reason for row in data.rows} == {"unreadable"}
    monkeypatch.setattr(folder_source.Folder, "read", failing(error))
    with (
        pytest.raises(DarkroomError) as caught,
        room.ingest(photos, options(), threads=1, cache_folder=photos.parent / "cache"),
    ):
        pass
    assert caught.value.code == 75
    monkeypatch.setattr(image_files.user_paths, "read_file", failing(error))
    with pytest.raises((WorkspaceError, MemoryError)):
        image_files.read(photos)


def test_what_other_threads_took_is_no_damage(photos, monkeypatch):
    """A picture that lacked memory while others were decoded is decoded again alone, and accepted."""
    lacking, original = iter([Decoded("PNG", reason="corrupt", detail=decoding.ASKS_TOO_MUCH)]), decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *arguments: next(lacking, None) or original(*arguments))
    with room.ingest(photos, options(near_duplicates="off"), threads=1, cache_folder=photos.parent / "cache") as data:
        assert not {row.reason for row in data.rows} & {"corrupt"}


@pytest.mark.parametrize("part", ["libjpeg", "frames", "OpenCV", "preview", "Pillow"])
def test_no_decoder_hides_too_little_memory(part, monkeypatch):
    """Each decoder has its own word for too little memory; none becomes another picture, a flag or a quarantine."""
    jpeg = encoded(detailed(64, 48), "JPEG", exif=Image.Exif())
    content = _deep_png() if part == "OpenCV" else encoded(detailed(64, 48), "TIFF") if part == "frames" else jpeg
    monkeypatch.setattr(decoding, "_check_memory", failing(MemoryError()))
    if part in ("libjpeg", "Pillow"):
        monkeypatch.setattr(decoding, "_plain_jpeg", lambda *_: None)
    if part == "libjpeg":
        monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", failing(ValueError("Insufficient memory (case 4)")))
    elif part == "Pillow":
        monkeypatch.setattr(decoding, "_decode_upright", failing(OSError("out of memory error when reading image file")))
    elif part == "frames":
        monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.n_frames", property(failing(MemoryError())))
        monkeypatch.setattr(decoding, "_decode_upright", lambda *_: (np.zeros((64, 64, 3), np.uint8), (), ""))
    elif part == "OpenCV":
        monkeypatch.setattr(deep_pixels.cv2, "imdecode", lambda *_: None)
    else:
        monkeypatch.setattr(Image.Image, "convert", failing(MemoryError()))
        with pytest.raises(MemoryError):
            decode_leniently(content)
        return
    with pytest.raises(MemoryError):
        decode(content, 32, "crop", BLACK)


def _deep_png() -> bytes:
    pixels = np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3) * 20
    return bytes(deep_pixels.cv2.imencode(".png", pixels)[1])


def test_too_little_memory_is_no_damage_of_a_row_group(tmp_path, monkeypatch):
    """Images of a Parquet file for which Arrow lacks memory are not taken for damaged: the run ends with exit code 75."""

    def batches(*_, **__):
        yield from failing(pa.ArrowMemoryError("malloc of size 99 failed"))()

    with open_source(parquet.write(tmp_path / "a.parquet", parquet.rows(4))) as source:
        monkeypatch.setattr(parquet_source.pq.ParquetFile, "iter_batches", batches)
        with pytest.raises(WorkspaceError) as caught:
            source.read(source.files[0])
    assert caught.value.code == 75


def test_a_label_that_cannot_be_read_for_lack_of_files_is_not_lost(tmp_path, monkeypatch):
    """A part of a sample of WebDataset is without its label only where its bytes are at fault."""
    webdataset_samples.write(tmp_path / "a.tar", webdataset_samples.samples(6))
    monkeypatch.setattr(file_sources.Tar, "read", failing(OSError(errno.EMFILE, "Too many open files")))
    with pytest.raises(WorkspaceError) as caught, open_source(tmp_path / "a.tar"):
        pass
    assert caught.value.code == 75

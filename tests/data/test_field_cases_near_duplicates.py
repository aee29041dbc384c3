"""Cases that people report about copies: a fixed camera, phones without EXIF, arrows, and classes that copies fill."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import ParamsError, SourceError
from darkroom.data import grouping
from darkroom.data import ingest as room
from tests.data.test_duplicates import recompressed, shot, textures
from tests.data.test_ingest import elsewhere, options  # noqa: F401


@pytest.fixture(scope="module")
def camera_photos(tmp_path_factory):
    """Return a folder of 30 photographs of one part under one camera, half of them with a spot, to be read only."""
    place = tmp_path_factory.mktemp("fixed camera")
    part, draw = textures(1, 5, 256)[0].astype(float), np.random.default_rng(0)
    for i in range(30):
        path = place / ("fine", "defect")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(shot(part, draw, spot=i % 2 == 1)).save(path)
    return place


@pytest.fixture
def fixed_camera(camera_photos, tmp_path):
    """Return a folder of 30 photographs of one part under one camera, half of them with a spot."""
    return shutil.copytree(camera_photos, tmp_path / "photos")


def groups_of(folder, **changes) -> tuple[list, list[str]]:
    """Return the rows of a folder, and the warnings about its copies."""
    params = options(**changes)
    with room.ingest(folder, params, threads=1, cache_folder=folder.parent / "cache") as data:
        return data.rows, grouping.near_duplicate_warnings(data.rows, data.groups, params.near_duplicates)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "copies"), [("group", 30), ("exact", 1), ("off", 1)])
def test_a_fixed_camera(fixed_camera, setting, copies):
    """All photographs are used. With `group` they share a group, and the warning names the setting; with `exact` and
    `off` each is a group of its own.
    """
    rows, warnings = groups_of(fixed_camera, near_duplicates=setting)
    assert {row.status for row in rows} == {"accepted"}
    assert {row.copies for row in rows} == {copies}
    assert len({row.group for row in rows}) == 30 // copies
    assert len(warnings) == (2 if setting == "group" else 0)
    assert all("set `ingest.near_duplicates` to exact" in warning for warning in warnings)


def test_a_split_that_copies_leave_empty_has_a_remedy_that_helps(fixed_camera):
    """Where each class is one picture no split can be drawn: the error names the setting, and with it there is none."""
    params = options(split_by="stratified", near_duplicates="group")
    cache = fixed_camera.parent / "cache"
    with room.ingest(fixed_camera, params, cache_folder=cache) as data, pytest.raises(SourceError, match="is empty") as error:
        room.check(data, fixed_camera, params)
    assert "set `ingest.near_duplicates` to exact" in error.value.remedy
    params = options(split_by="stratified", near_duplicates="exact")
    with room.ingest(fixed_camera, params, cache_folder=cache) as data:
        room.check(data, fixed_camera, params)


@pytest.mark.slow
def test_conflicts_that_take_more_than_a_tenth_of_a_class_name_the_setting(fixed_camera):
    """Recompressed copies with the other label are conflicts; with `exact` they are not looked for."""
    for i in (1, 3, 5, 7):
        copy = recompressed(Image.open(fixed_camera / "defect" / f"{i}.png"), 60)
        Image.fromarray(copy).save(fixed_camera / "fine" / f"copy{i}.png")
    rows, warnings = groups_of(fixed_camera)
    assert {row.path for row in rows if row.reason == "label_conflict"} >= {f"defect/{i}.png" for i in (1, 3, 5, 7)}
    assert any("in conflicts of labels" in warning and "near_duplicates" in warning for warning in warnings)
    assert {row.status for row in groups_of(fixed_camera, near_duplicates="exact")[0]} == {"accepted"}


@pytest.mark.parametrize(("setting", "status"), [("group", "quarantined"), ("exact", "quarantined"), ("off", "accepted")])
def test_equal_pixels_with_two_labels(fixed_camera, setting, status):
    """They are a conflict unless copies are not looked for."""
    shutil.copy(fixed_camera / "fine" / "0.png", fixed_camera / "defect" / "copy.png")
    rows = {row.path: row for row in groups_of(fixed_camera, near_duplicates=setting)[0]}
    assert rows["fine/0.png"].status == rows["defect/copy.png"].status == status
    assert rows["fine/0.png"].group == rows["defect/copy.png"].group


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270])
def test_phones_without_exif(tmp_path, turn):
    """A picture and the same rotated share a group. If the label tells how a picture is turned, none is lost."""
    for i, picture in enumerate(textures(12, 9, 160)):
        for label, image in (("upright", Image.fromarray(picture)), ("turned", Image.fromarray(picture).transpose(turn))):
            path = tmp_path / "photos" / label / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=85)
    rows, _ = groups_of(tmp_path / "photos")
    assert {row.status for row in rows} == {"accepted"}
    assert {row.copies for row in rows} == {2}
    assert len({row.group for row in rows}) == 12


def test_the_setting_is_one_of_three():
    """Another word is a mistake."""
    with pytest.raises((ParamsError, ValueError), match="near_duplicates"):
        options(near_duplicates="fuzzy")

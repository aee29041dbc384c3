"""The page of the data: complete, self-contained, and the same for the same data."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from darkroom.core.counts import counted
from darkroom.data import ingest as room
from darkroom.data.page import page
from tests.browser import COLOURS, faults, opened, scrolls_sideways
from tests.data.test_decoding import detailed, encoded
from tests.data.test_grouping import drawn, textured  # noqa: F401
from tests.data.test_ingest import elsewhere, options  # noqa: F401
from tests.evaluation.test_report import miscounted


def render(folder, cache, **changes) -> str:
    params = options(**changes)
    with room.ingest(folder, params, cache_folder=cache) as data:
        return page(data, folder, params)


@pytest.fixture
def messy(textured):  # noqa: F811
    """Return a folder with a copy, a conflict, damaged, small, dark and long pictures, litter, and a name
    that is HTML.
    """
    shutil.copy(textured / "cat" / "0.png", textured / "cat" / "copy.png")
    shutil.copy(textured / "cat" / "2.png", textured / "dog" / "conflict.png")
    (textured / "dog" / "cut.jpg").write_bytes(encoded(detailed(300, 300), "JPEG")[:9000])
    (textured / "dog" / "text.png").write_text("no image")
    (textured / "dog" / "Thumbs.db").write_text("x")
    Image.new("RGB", (4, 4)).save(textured / "dog" / "small.png")
    Image.fromarray(np.asarray(detailed(90, 90)) // 6).save(textured / "cat" / "dark.png")
    Image.fromarray(np.asarray(detailed(400, 80))).save(textured / "cat" / "long.png")
    shutil.copy(textured / "cat" / "4.png", textured / "cat" / "<script>alert(1)<script>.png")
    return textured


@pytest.mark.parametrize("count", [0, 1, 2])
def test_counts_are_in_grammar(count, textured, tmp_path):  # noqa: F811
    """With none, one and two of everything no noun or verb beside a count has the wrong number."""
    for i in range(count):
        shutil.copy(textured / "cat" / f"{2 * i}.png", textured / "cat" / f"copy{i}.png")
        (textured / "dog" / f"text{i}.png").write_text("no image")
        (textured / ".more").mkdir(exist_ok=True)
        shutil.copy(textured / "cat" / f"{2 * i}.png", textured / ".more" / f"{i}.png")
    text = re.sub("<[^>]*>", " ", render(textured, tmp_path / "cache").partition("<body>")[2])
    assert not count or f"{counted(count, 'picture has', 'pictures have')} copies" in text
    assert miscounted(text) == []


def test_the_page_has_every_section(messy, tmp_path):
    """Reasons, faults and remedies are named; names are escaped; nothing is loaded from elsewhere."""
    text = render(messy, tmp_path / "cache")
    for expected in (
        "label_conflict",
        "truncated",
        "not_an_image",
        "too_small",
        "litter",
        "too dark",
        "extreme aspect ratio",
        "copy.png",
        "Remedy",
    ):
        assert expected in text, expected
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    quarantine = text[text.index('<h2 id="quarantine">') :]
    assert '<img src="data:image/jpeg' in quarantine[: quarantine.index("cut.jpg")]


@pytest.mark.slow
def test_the_page_is_the_same_for_the_same_data(messy, tmp_path):
    """With and without a cache the bytes of the page are the same."""
    first = render(messy, tmp_path / "cache")
    assert render(messy, tmp_path / "cache") == first
    assert render(messy, tmp_path / "again") == first


@pytest.mark.slow
def test_the_page_stays_small(tmp_path):
    """A hundred classes make a page below 5 MiB."""
    rng = np.random.default_rng(0)
    for label in range(100):
        (tmp_path / "photos" / f"class {label}").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (112, 112, 3), np.uint8)).save(tmp_path / "photos" / f"class {label}" / f"{i}.png")
    text = render(tmp_path / "photos", tmp_path / "cache", image_size=112)
    assert len(text) < 5 * 2**20
    assert "stratified" in text  # with three images a class, some split is empty


@pytest.mark.slow
@pytest.mark.parametrize(("dark", "width"), [(False, 1100), (True, 1100), (False, 360)])
def test_the_page_can_be_read_by_everyone(messy, tmp_path, dark, width):
    """Nothing is loaded or complained of, axe-core finds no serious fault, and a phone does not scroll
    sideways.
    """
    (tmp_path / "data.html").write_text(render(messy, tmp_path / "cache"), encoding="utf-8")
    with opened(tmp_path / "data.html", dark, width) as page:
        assert faults(page, *([COLOURS] if dark else [])) == []
        assert not scrolls_sideways(page)
        red = page.evaluate("+getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert red < 60 if dark else red > 200

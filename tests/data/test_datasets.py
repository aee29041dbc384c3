"""Data sets known by name, and what weights may be pretrained on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from darkroom.data import datasets, glyphs
from darkroom.errors import DarkroomError
from darkroom.params import parse


def test_digits_are_the_real_ones(tmp_path):
    """All 1,797 digits are written as 8×8 images in ten folders, with their full range of grey."""
    assert datasets.DATASETS["digits"](tmp_path, datasets.Wanted()) == 1797
    assert sorted(path.name for path in tmp_path.iterdir()) == list("0123456789")
    image = np.asarray(Image.open(tmp_path / "0" / "00000.png"))
    assert image.shape == (8, 8)
    assert image.max() == 239  # 15 of 16


def test_glyph_i_depends_on_the_seed_and_i_alone():
    """More glyphs only add to those that there were; another seed draws others; every class is there and none is blank."""
    images, labels, classes = glyphs.render(141, 32, seed=1)
    fewer = glyphs.render(50, 32, seed=1)[0]
    assert (images[:50] == fewer).all()
    assert (glyphs.render(50, 32, seed=2)[0] != fewer).any()
    assert (np.bincount(labels) == 3).all()
    assert len(classes) == 47
    assert (images.std((1, 2, 3)) > 10).all()


@pytest.mark.parametrize("font", glyphs.FONTS)
def test_every_font_draws_every_character(font):
    """Each font that glyphs uses has ink for each class, and no two classes look alike in it."""
    drawn = [glyphs._drawn(character, font).tobytes() for character in glyphs.CLASSES]
    assert all(np.frombuffer(item, np.uint8).max() > 128 for item in drawn)
    assert len(set(drawn)) == len(drawn)


def test_glyphs_become_a_folder_of_classes(tmp_path):
    """Written glyphs have a folder per class, and no two folders differ by case alone."""
    datasets.DATASETS["glyphs"](tmp_path, datasets.Wanted(size=16, count=94))
    names = [path.name for path in tmp_path.iterdir()]
    assert len({name.casefold() for name in names}) == len(names) == 47


def pretraining(values, **changes):
    from darkroom.stages.weights import _pretraining_images

    values["weights"] |= {"pretrain_images": 100} | changes
    return _pretraining_images(parse(values))


@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_weights_can_be_pretrained_on_a_named_set(values, name, tmp_path, monkeypatch):
    """Pretraining images come in the size of the run, as many as asked for, in the same order every time."""
    monkeypatch.chdir(tmp_path)
    values["ingest"]["source"] = "elsewhere"
    images, labels, classes = pretraining(values, pretrain_on=name)
    assert images.shape == (100, 32, 32, 3)
    assert len(labels) == 100
    assert len(classes) == {"glyphs": 47, "digits": 10}[name]
    assert (pretraining(values, pretrain_on=name)[0] == images).all()


def test_weights_can_be_pretrained_on_a_folder(values, folder, tmp_path, monkeypatch):
    """Any folder that ingest accepts will do; one without images says so."""
    monkeypatch.chdir(tmp_path)
    images, labels, classes = pretraining(values, pretrain_on=str(folder))
    assert len(images) == len(labels) == 60
    assert classes == ("cat", "dog")
    with pytest.raises(DarkroomError):
        pretraining(values, pretrain_on=str(folder / "cat"))

"""Near duplicates: resized, recompressed, mirrored and cropped copies, and no pictures that only look alike."""

from __future__ import annotations

import io
import tarfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from darkroom.data import duplicates, quality
from darkroom.data.duplicates import WINDOWS, Clusters, find_pairs, hashes, is_plain


def textures(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 64, 64) uint8 pictures with detail at every scale, each different."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        layers = [
            cv2.resize(rng.standard_normal((n, n)) * 40 / n**0.5, (64, 64), interpolation=cv2.INTER_CUBIC) for n in (4, 8, 16, 32)
        ]
        pictures.append(np.clip(128 + 2 * sum(layers), 0, 255))
    return np.stack(pictures).astype(np.uint8)


def near_duplicates(thumbnails: np.ndarray, labels=None) -> list[tuple[int, int]]:
    return find_pairs(labels or [0] * len(thumbnails), lambda numbers: thumbnails[numbers])[0]


def test_a_mirrored_picture_has_the_hash_with_its_odd_bits_flipped():
    """Mirroring costs one XOR: it holds for each picture, up to coefficients that are next to nothing."""
    pictures = textures(50)
    flipped = hashes(np.ascontiguousarray(pictures[:, :, ::-1]))[0]
    assert (np.bitwise_count(flipped ^ (hashes(pictures)[0] ^ duplicates._ODD)) <= 1).all()


@pytest.mark.parametrize("window", range(len(WINDOWS)))
def test_a_crop_is_found_through_its_window(window):
    """What is cut out at a window, and made as large as the whole, is found.

    So is the whole through the cut.
    """
    pictures = textures(20, window)
    left, right, top, bottom = (round(64 * share) for share in WINDOWS[window])
    cut = np.stack([cv2.resize(picture[top:bottom, left:right], (64, 64)) for picture in pictures])
    hits = set(near_duplicates(np.concatenate([pictures, cut])))
    assert sum((i, i + 20) in hits for i in range(20)) >= 19
    assert all(j == i + 20 for i, j in hits)


def test_different_pictures_are_not_confused():
    """Of a thousand different pictures none is taken for another."""
    assert near_duplicates(textures(1000)) == []


def test_pictures_without_content_have_no_hash():
    """Frames of one grey, which all look alike, are not proposed."""
    plain = np.stack([np.full((64, 64), grey, np.uint8) for grey in range(0, 250, 10)])
    assert is_plain(plain).all()
    assert find_pairs([0] * len(plain), lambda numbers: plain[numbers]) == ([], [""] * len(plain))


def test_nothing_and_one_are_no_pair():
    """No picture, and a single one, give no pair."""
    assert near_duplicates(textures(1)[:0]) == []
    assert near_duplicates(textures(1)) == []


def test_a_pair_does_not_depend_on_the_other_pictures():
    """Whether two pictures are near duplicates is decided by these two: any selection has the pairs that lie
    in it.
    """
    pictures = np.concatenate([textures(30), np.clip(textures(30)[:, :, ::-1].astype(int) + 3, 0, 255).astype(np.uint8)])
    pairs = set(near_duplicates(pictures, list(range(60))))
    assert len(pairs) >= 25
    for seed in range(12):
        selected = np.random.default_rng(seed).permutation(60)[: 2 + 2 * seed].tolist()
        part = near_duplicates(pictures[selected], list(range(len(selected))))
        inside = {pair for pair in pairs if pair[0] in selected and pair[1] in selected}
        assert {tuple(sorted((selected[i], selected[j]))) for i, j in part} == inside


def test_every_picture_that_has_a_copy_with_another_label_is_in_such_a_pair():
    """Within a label enough pairs connect a cluster.

    Of those with several labels each member has a pair across.
    """
    same = np.repeat(textures(1), 9, axis=0) + np.arange(9, dtype=np.uint8)[:, None, None]
    assert len(near_duplicates(same)) == 8
    labels = ["a", "a", "b", "b", "b", "a", "a", "a", "a"]
    across = [pair for pair in near_duplicates(same, labels) if labels[pair[0]] != labels[pair[1]]]
    assert {i for pair in across for i in pair} == set(range(9))


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_clusters_are_connected_components(edges):
    """Two things share a name exactly where edges lead from one to the other, whatever their order."""
    one, other = Clusters(20), Clusters(20)
    for i, j in edges:
        one.join(i, j)
    for i, j in reversed(edges):
        other.join(j, i)
    assert [one.root(i) for i in range(20)] == [other.root(i) for i in range(20)]
    assert all(one.root(i) == one.root(j) and one.root(i) <= i for i, j in edges)


def test_copies_of_photographs_are_found(shared):
    """On 100 real daisies: at least 95% of resized and recompressed copies, 80% of mirrored and cropped ones,
    no wrong pair.
    """
    with tarfile.open(shared / "flowers.tar") as archive:
        members = [member for member in archive if member.isfile() and "daisy" in member.name][:100]
        photos = [Image.open(archive.extractfile(member)).convert("RGB") for member in members]
    original = [thumbnail(photo, 95) for photo in photos]
    count = len(photos)
    assert count == 100

    def share(change, quality_=85) -> float:
        copies = np.stack(original + [thumbnail(change(photo), quality_) for photo in photos])
        hits = set(near_duplicates(copies, list(range(2 * count))))
        assert all(j == i + count for i, j in hits)
        return sum((i, i + count) in hits for i in range(count)) / count

    assert share(lambda photo: photo.resize((photo.width // 2, photo.height // 2))) >= 0.95
    assert share(lambda photo: photo, 30) >= 0.95
    assert share(ImageOps.mirror) >= 0.8
    assert share(lambda p: p.crop((p.width // 12, p.height // 30, p.width - p.width // 60, p.height - p.height // 15))) >= 0.8


def thumbnail(photo: Image.Image, level: int) -> np.ndarray:
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=level)
    examined = quality.examine(np.asarray(Image.open(io.BytesIO(stream.getvalue()))))
    assert examined is not None
    return examined[1]

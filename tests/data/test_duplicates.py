"""Near duplicates: copies that are resized, recompressed, mirrored, turned, cropped, framed or have a banner, and no
pictures that only look alike.
"""

from __future__ import annotations

import io
import tarfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from darkroom.core import large_arrays
from darkroom.data import duplicates, quality
from darkroom.data.duplicates import Clusters, Duplicates, find
from darkroom.data.fingerprints import fingerprint, without_frame
from darkroom.data.local_features import FEATURE, local_features, match
from darkroom.data.perceptual_hash import ORIENTATIONS, Orientation, hashes, is_plain


def textures(count: int, seed: int = 0, side: int = 64) -> np.ndarray:
    """Return (count, side, side) uint8 pictures with detail at every scale, each different."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        layers = [
            cv2.resize(rng.standard_normal((n, n)) * 40 / n**0.5, (side, side), interpolation=cv2.INTER_CUBIC)
            for n in (4, 8, 16, 32)
        ]
        pictures.append(np.clip(128 + 2 * sum(layers), 0, 255))
    return np.stack(pictures).astype(np.uint8)


def search(pictures: list[np.ndarray] | np.ndarray, labels: list | None = None) -> Duplicates:
    described = np.stack([fingerprint(np.ascontiguousarray(picture)) for picture in pictures])
    names = [str(label) for label in labels or [0] * len(described)]
    return find(names, lambda numbers, detailed=False: described[numbers])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_hash_of_a_turned_picture_follows_from_its_hash(orientation):
    """It holds for each picture, up to coefficients that are next to nothing; the transform says where a point of
    the picture lies in the turned one.
    """
    pictures = textures(50)
    turned = np.ascontiguousarray(orientation.of_pictures(pictures))
    assert (np.bitwise_count(hashes(turned) ^ orientation.of_hashes(hashes(pictures))) <= 1).all()
    point = np.zeros((64, 64), np.uint8)
    point[8, 20] = 1  # y, x
    (y,), (x,) = np.nonzero(orientation.of_pictures(point))
    expected = orientation.transform @ np.array([20.5 / 64, 8.5 / 64, 1])
    assert np.allclose(expected * 64 - 0.5, (x, y))


def test_all_eight_orientations_are_compared():
    """Each of the eight is one that is compared, or the inverse of one that is compared in both directions."""
    square = np.arange(9).reshape(3, 3)
    reached = {orientation.of_pictures(square).tobytes() for orientation in ORIENTATIONS}
    for orientation in ORIENTATIONS:
        twice = orientation.of_pictures(orientation.of_pictures(square))
        assert orientation.is_own_inverse == bool((twice == square).all())
        inverse = Orientation(orientation.swapped, orientation.inverted, orientation.mirrored)
        reached.add((inverse if orientation.swapped else orientation).of_pictures(square).tobytes())
    assert len(reached) == 8


def cropped(share: float):
    """Return a change that cuts out this share of each side, somewhere."""

    def change(picture: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        side = round(share * len(picture))
        top, left = draw.integers(0, len(picture) - side + 1, 2)
        return picture[top : top + side, left : left + side]

    return change


def with_banner(picture: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).rectangle((0, 160, 192, 192), fill=10)
    ImageDraw.Draw(image).text((10, 164), "half price", fill=250, font_size=22)
    return np.asarray(image)


CHANGES = {
    "half": (lambda picture, draw: cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA), 20),
    "mirrored": (lambda picture, draw: picture[:, ::-1], 20),
    **{f"rotated by {90 * k}": (lambda picture, draw, k=k: np.rot90(picture, k), 20) for k in (1, 2, 3)},
    "cropped to 90%": (cropped(0.9), 19),
    "cropped to 80%": (cropped(0.8), 19),
    "cropped to 70%": (cropped(0.7), 17),
    "rotated and cropped": (lambda picture, draw: np.rot90(cropped(0.8)(picture, draw)), 19),
    "framed": (lambda picture, draw: np.pad(picture, 25, constant_values=255), 19),
    "padded to a square": (lambda picture, draw: np.pad(picture[:150], ((21, 21), (0, 0))), 18),
    "banner": (with_banner, 19),
}


@pytest.mark.parametrize("name", CHANGES)
def test_copies_are_found_and_nothing_else(name):
    """Of twenty pictures with a copy each, nearly all pairs are found, and no other pair."""
    change, least = CHANGES[name]
    draw = np.random.default_rng(0)
    pictures = list(textures(20, 1, 192))
    result = search([*pictures, *(change(picture, draw) for picture in pictures)])
    assert sum((i, i + 20) in result.pairs for i in range(20)) >= least
    assert all(j == i + 20 for i, j in result.pairs)


@pytest.mark.slow
def test_different_pictures_are_not_confused():
    """Of a thousand different pictures none is taken for another."""
    assert search(textures(1000)).pairs == []


def test_small_drawings_on_a_plain_ground_are_not_confused():
    """Digits of the same kind, enlarged as people enlarge MNIST, are different pictures."""
    digits = {}
    for seed in range(120):
        draw = np.random.default_rng(seed)
        image = Image.new("L", (28, 28))
        x, y = draw.integers(1, 12, 2)
        shapes = ImageDraw.Draw(image)
        (shapes.ellipse if seed % 2 else shapes.rectangle)(
            (x, y, x + draw.integers(8, 15), y + draw.integers(8, 15)), outline=255, width=2
        )
        turns = [np.rot90(np.asarray(image)[:, ::step], k).tobytes() for k in range(4) for step in (1, -1)]
        digits[min(turns)] = np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC))
    assert len(digits) >= 80
    assert len(search(list(digits.values())).pairs) <= 3


def test_pictures_without_content_have_no_hash():
    """Frames of one grey, which all look alike, are not proposed."""
    plain = np.stack([np.full((64, 64), grey, np.uint8) for grey in range(0, 250, 10)])
    assert is_plain(plain).all()
    assert search(plain) == Duplicates([], [], [""] * len(plain))


def test_nothing_and_one_are_no_pair():
    """No picture, and a single one, give no pair."""
    assert find([], lambda numbers, detailed=False: np.empty(0)) == Duplicates([], [], [])
    assert search(textures(1)).pairs == []


def test_the_search_is_the_same_on_the_disk(tmp_path, monkeypatch):
    """Where what is held of pictures is mapped from files, since it is larger than memory allows, the pairs are the same, in the
    order of several blocks too; the files have no names."""
    pictures = [*textures(60), *textures(30)]
    pictures[5] = np.full((64, 64), 128, np.uint8)  # plain: it has no place
    labels = [number % 3 for number in range(len(pictures))]
    in_memory = search(pictures, labels)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(large_arrays, "FOLDER", tmp_path)
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    assert search(pictures, labels) == in_memory
    assert len(in_memory.pairs) == 29
    assert list(tmp_path.iterdir()) == []


def test_a_pair_does_not_depend_on_the_other_pictures():
    """Whether two pictures are near duplicates, and in conflict, is decided by these two: any selection has the
    pairs that lie in it.
    """
    draw = np.random.default_rng(0)
    pictures = list(textures(20, 3, 128))
    pictures += [np.clip(picture[:, :: (-1) ** i].astype(int) + 3, 0, 255).astype(np.uint8) for i, picture in enumerate(pictures)]
    pictures += [cropped(0.75)(picture, draw) for picture in pictures[:20]]
    result = search(pictures, list(range(60)))
    assert len(result.pairs) >= 36
    assert len(result.conflicts) >= 9
    for seed in range(8):
        selected = np.random.default_rng(seed).permutation(60)[: 2 + 6 * seed].tolist()
        part = search([pictures[i] for i in selected], list(range(len(selected))))
        for name in ("pairs", "conflicts"):
            inside = {pair for pair in getattr(result, name) if pair[0] in selected and pair[1] in selected}
            renamed = {tuple(sorted((selected[i], selected[j]))) for i, j in getattr(part, name)}
            assert renamed >= inside or name == "pairs"
            together = Clusters(60)
            for i, j in renamed:
                together.join(i, j)
            assert all(together.root(i) == together.root(j) for i, j in inside)


def test_every_picture_that_has_a_copy_with_another_label_is_in_a_conflict():
    """Within a label enough pairs connect a cluster.

    Of those with several labels each member is in a conflict.
    """
    same = [np.clip(textures(1, side=128)[0].astype(int) // 2 + 40 + k, 0, 255).astype(np.uint8) for k in range(9)]
    assert len(search(same).pairs) == 8
    labels = ["a", "a", "b", "b", "b", "a", "a", "a", "a"]
    conflicts = search(same, labels).conflicts
    assert {i for pair in conflicts for i in pair} == set(range(9))
    assert all(labels[i] != labels[j] for i, j in conflicts)


def shot(part: np.ndarray, draw: np.random.Generator, spot: bool, level: int = 92) -> np.ndarray:
    """Return a photograph (256, 256) of a part, as a JPEG of this quality: a little lighter, moved, with noise."""
    moved = np.roll(part * draw.uniform(0.92, 1.08), tuple(draw.integers(-3, 4, 2)), (0, 1))
    image = Image.fromarray((moved + draw.normal(0, 3, part.shape)).clip(0, 255).astype(np.uint8))
    if spot:
        x, y = (int(value) for value in draw.integers(60, 190, 2))
        grey = int(np.asarray(image)[y, x])
        ImageDraw.Draw(image).ellipse((x - 7, y - 7, x + 7, y + 7), fill=grey - 70 if grey > 127 else grey + 70)
    return recompressed(image, level)


def recompressed(image: Image.Image, level: int) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=level)
    return np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("L"))


def test_photographs_of_one_scene_with_a_defect_are_grouped_and_no_conflict():
    """A fixed camera takes one part 24 times; the halves with and without a spot have two labels. All are one
    group, and no pair is a conflict. A recompressed copy with another label is one.
    """
    part = textures(1, 5, 256)[0].astype(float)
    draw = np.random.default_rng(0)
    shots = [shot(part, draw, spot=i % 2 == 1) for i in range(24)]
    result = search(shots, [i % 2 for i in range(24)])
    clusters = Clusters(24)
    for i, j in result.pairs:
        clusters.join(i, j)
    assert {clusters.root(i) for i in range(24)} == {0}
    assert result.conflicts == []
    again = recompressed(Image.fromarray(shots[1]), 30)
    assert search([*shots, again], [*(i % 2 for i in range(24)), 0]).conflicts == [(1, 24)]


@pytest.mark.parametrize("level", [30, 50, 85])
def test_a_recompressed_copy_with_another_label_is_a_conflict(level):
    """At quality 30 and above, also resized. A turned copy is in the group and no conflict: the label may say how a
    picture is turned.
    """
    pictures = list(textures(12, 7, 256))
    copies = [recompressed(Image.fromarray(picture).resize((200, 200)), level) for picture in pictures]
    labels = [0] * 12 + [1] * 12
    assert len(search([*pictures, *copies], labels).conflicts) >= 11
    for turned in ([np.rot90(copy, k) for copy in copies] for k in (1, 2)):
        result = search([*pictures, *turned], labels)
        assert (len(result.pairs), result.conflicts) == (12, [])


def test_a_frame_is_left_out_and_a_background_is_not():
    """A border of one colour, on some or all sides, is cut off; the plain ground around an object stays."""
    picture = textures(1, 2, 128)[0]
    for sides in (((20, 20), (20, 20)), ((0, 0), (30, 30)), ((25, 0), (0, 0))):
        inside = without_frame(np.pad(picture, sides, constant_values=250))
        assert np.abs(np.array(inside.shape) - 128).max() <= 4
    assert without_frame(picture).shape == picture.shape
    drawing = np.full((128, 128), 255, np.uint8)
    cv2.circle(drawing, (64, 64), 40, 0, 3)
    assert without_frame(drawing).shape == drawing.shape
    assert without_frame(np.full((80, 90), 7, np.uint8)).shape == (80, 90)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_local_features_are_the_same_in_every_orientation(orientation):
    """Nearly all places are found again, with the same hash."""
    for picture in textures(5, 4, 192):
        features = local_features(picture)
        turned = local_features(np.ascontiguousarray(orientation.of_pictures(picture)))
        assert features.dtype == FEATURE
        assert len(features) >= 10
        distances = np.bitwise_count(features["hash"][:, None] ^ turned["hash"]).min(axis=1)
        assert (distances <= 6).mean() >= 0.75


def test_pieces_that_overlap_are_not_copies():
    """Two pieces of a picture that share 70% of their area are different pictures; a piece and the picture are not."""
    for picture in textures(10, 6, 240):
        left, right = picture[:, :168], picture[:, 50:218]
        assert search([left, right]).pairs == []
        assert search([picture, left]).pairs == [(0, 1)]


def test_the_places_of_matching_features_refine_a_transform():
    """A transform that is a little off is brought to where the features lay the picture."""
    for picture in textures(5, 8, 192):
        features = np.zeros((1, 20), FEATURE)
        kept = local_features(picture)
        features[0, : len(kept)] = kept
        shape = np.full((1, 2), 96, np.float32)
        rough = np.array([[[1.03, 0, 0.01], [0, 1.03, -0.01]]])
        counts, refined = match(features, features, rough, shape, shape)
        assert counts[0] >= 3
        assert np.allclose(refined[0], [[1, 0, 0], [0, 1, 0]], atol=0.003)


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


@pytest.mark.slow
def test_copies_of_photographs_are_found(shared):
    """On 60 real daisies: nearly all copies of each kind, and no wrong pair."""
    with tarfile.open(shared / "flowers.tar") as archive:
        members = [member for member in archive if member.isfile() and "daisy" in member.name][:60]
        photos = [Image.open(archive.extractfile(member)).convert("RGB") for member in members]
    count = len(photos)
    assert count == 60
    original = [grey(photo, 95) for photo in photos]

    def share(change, level=85) -> float:
        result = search(original + [grey(change(photo), level) for photo in photos], list(range(2 * count)))
        assert all(j == i + count for i, j in result.pairs)
        return sum((i, i + count) in result.pairs for i in range(count)) / count

    assert share(lambda photo: photo.resize((photo.width // 2, photo.height // 2)), 30) >= 0.95
    assert share(ImageOps.mirror) >= 0.98
    assert share(lambda photo: photo.transpose(Image.Transpose.ROTATE_270)) >= 0.98
    assert share(lambda p: p.crop((p.width // 5, p.height // 10, p.width * 9 // 10, p.height * 8 // 10))) >= 0.8
    assert share(lambda photo: ImageOps.expand(photo, photo.height // 10, "white")) >= 0.9


def grey(photo: Image.Image, level: int) -> np.ndarray:
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=level)
    examined = quality.examine(np.asarray(Image.open(io.BytesIO(stream.getvalue()))))
    assert examined is not None
    return examined[1]

"""Images by class, with the mean of each class."""

from __future__ import annotations

import numpy as np

from darkroom.lab import class_images, drawing


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 1, 8, 8) of classes 0 and 2, whose means differ, and none of class 1."""
    labels = np.arange(count) % 2 * 2
    pixels = np.random.default_rng(seed).integers(0, 60, (count, 1, 8, 8)) + 80 * labels[:, None, None, None] // 2
    return pixels.astype(np.uint8), labels


def test_a_row_has_the_mean_and_images_of_its_class_alone():
    """Each class with images has a row: its mean in a frame, then as many of its own images as asked for, always the same."""
    train = images(20, 0)
    rows = class_images.draw_rows(train, ("a", "b", "c"), 4)
    assert [(row.heading, row.remark, len(row.tiles)) for row in rows] == [("a", "10 images", 5), ("c", "10 images", 5)]
    for row, label in zip(rows, (0, 2), strict=True):
        mean, *others = (tile.pixels for tile in row.tiles)
        assert (mean[0, 0] == drawing.COLOURS["blue"]).all()
        members = [np.repeat(image, 3, 0).transpose(1, 2, 0) for image in train[0][train[1] == label]]
        assert abs(int(mean[31, 31, 0]) - np.mean(members, 0)[4, 4, 0]) < 1
        assert all(any((drawing.fit(member, class_images.SIDE) == shown).all() for member in members) for shown in others)
    again = class_images.draw_rows(train, ("a", "b", "c"), 4)
    assert all(
        (a.pixels == b.pixels).all() for x, y in zip(rows, again, strict=True) for a, b in zip(x.tiles, y.tiles, strict=True)
    )


def test_the_nearest_mean_is_found_by_the_distance_of_pixels():
    """The accuracy is that of comparing each image with each mean, pixel by pixel."""
    train, held_out = images(40, 0), images(30, 1)
    held_out[0][:5] = 70  # between the two means
    means = {label: train[0][train[1] == label].mean(0) for label in (0, 2)}
    nearest = [min(means, key=lambda label: float(((image - means[label]) ** 2).sum())) for image in held_out[0]]
    expected = float((np.array(nearest) == held_out[1]).mean())
    assert 0.5 < expected < 1
    assert class_images.nearest_mean_accuracy(train, held_out, 3) == expected


def test_of_many_classes_the_first_are_shown():
    """A sheet of a thousand classes would have no end."""
    labels = np.arange(100)
    rows = class_images.draw_rows((np.zeros((100, 3, 8, 8), np.uint8), labels), [f"class {label}" for label in labels])
    assert [row.heading for row in rows] == [f"class {label}" for label in range(class_images.MAX_CLASSES)]
    assert rows[0].remark == "1 image"

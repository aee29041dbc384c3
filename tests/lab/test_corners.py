"""Corners and colour channels equal OpenCV's; the code beside a picture is the code that ran."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from darkroom.lab import colour_spaces, corners, drawing, kernel_steps, kernels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_responses_are_opencvs():
    """With a window of 3×3 equal weights both detectors are OpenCV's."""
    image, window = noise(30, 41), np.full((3, 3), 1 / 9, np.float32)
    products = corners.gradient_products(image, window)
    inside = (slice(3, -3), slice(3, -3))
    assert corners.harris(*products, k=0.04)[inside] == pytest.approx(cv2.cornerHarris(image, 3, 3, 0.04)[inside], abs=1e-5)
    assert corners.shi_tomasi(*products)[inside] == pytest.approx(cv2.cornerMinEigenVal(image, 3, 3)[inside], abs=1e-4)


@pytest.mark.parametrize("detector", [corners.harris, corners.shi_tomasi])
def test_a_square_has_four_corners(detector):
    """A white square has four corners, at its own; along its sides the response of Harris is negative."""
    image = np.zeros((60, 60), np.float32)
    image[20:40, 15:45] = 1
    response = detector(*corners.gradient_products(image, corners.gaussian(corners.WINDOW)))
    peaks = corners.find_peaks(response)
    assert len(peaks) == 4
    for row, column in ((20, 15), (20, 44), (39, 15), (39, 44)):
        assert min(abs(row - y) + abs(column - x) for y, x in peaks) <= 2
    assert detector is not corners.harris or response[30, 15] < 0
    assert corners.find_peaks(np.zeros((5, 5), np.float32)) == []


def test_hue_saturation_and_value_are_opencvs():
    """Hue in degrees, saturation, value and luma are those of `cvtColor`, grey and black pixels too."""
    pixels = np.concatenate([noise(20, 20, 3), np.repeat(noise(20, 4, 1), 3, 2), np.zeros((20, 2, 3), np.float32)], 1)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    theirs = np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), 2, 0)
    for own, their in zip(colour_spaces.to_hsv(red, green, blue), theirs, strict=True):
        assert own == pytest.approx(their, abs=1e-3)
    assert colour_spaces.luminance(red, green, blue) == pytest.approx(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), abs=1e-5)


@pytest.mark.parametrize("function", [kernels.respond, kernels.length, corners.harris, corners.find_peaks, colour_spaces.to_hsv])
def test_the_code_beside_a_picture_is_what_ran(function):
    """The text without types and docstring still computes what the function does."""
    scope = {**vars(kernels), **vars(corners), **vars(colour_spaces)}
    exec(kernel_steps.source_of(function), scope)
    shown = scope[function.__name__]
    arguments = {
        kernels.respond: (noise(9, 9), noise(3, 3)), kernels.length: ([noise(5, 5), noise(5, 5)],),
        corners.find_peaks: (noise(20, 20),),
    }.get(function, (noise(5, 5), noise(5, 6)[:, :5], noise(6, 5)[:5]))  # fmt: skip
    assert np.array_equal(np.array(shown(*arguments)), np.array(function(*arguments)))
    assert '"""' not in kernel_steps.source_of(function)


def test_code_is_drawn_whole():
    """No line of code is wider than its picture, and a long one is wrapped at a space."""
    long = "x = " + " + ".join(f"value_{i}" for i in range(40))
    assert drawing.draw_code(long).shape[1] < 760
    assert "".join(drawing._wrap_code(long)).replace(" ", "") == long.replace(" ", "")

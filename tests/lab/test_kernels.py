"""Kernels: responses equal those of SciPy and OpenCV; a user's kernel is parsed or refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from darkroom.core.errors import ParamsError
from darkroom.lab import kernels


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width), np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (3, 3), (4, 3), (2, 5), (7, 7), (21, 21)])
@pytest.mark.parametrize("size", [(40, 30), (9, 1), (5, 5)])
def test_a_response_is_scipys_correlation(shape, size):
    """For kernels of odd and even shapes, also larger than the image, the response is SciPy's with a mirrored
    border."""
    image, kernel = noise(*size), noise(*shape) - 0.5
    assert kernels.respond(image, kernel) == pytest.approx(ndimage.correlate(image, kernel, mode="mirror"), abs=1e-4)


def test_a_single_pixel_responds_with_the_kernels_sum():
    """Mirrored at every border, an image of one pixel is constant."""
    assert kernels.respond(np.full((1, 1), 0.5, np.float32), np.full((3, 3), 2.0, np.float32)) == pytest.approx(9)


@pytest.mark.parametrize("name", ["sobel", "scharr"])
def test_edge_kernels_are_opencvs(name):
    """Sobel and Scharr equal OpenCV's own functions, across and down."""
    image = noise(24, 31)
    filters = {"sobel": cv2.Sobel, "scharr": cv2.Scharr}[name]
    for kernel, (dx, dy) in zip(kernels.banks()[name].kernels.values(), ((1, 0), (0, 1)), strict=True):
        assert kernels.respond(image, kernel) == pytest.approx(filters(image, cv2.CV_32F, dx, dy), abs=1e-5)


def test_prewitt_and_the_laplacian_are_scipys():
    """Prewitt and the Laplacian of four neighbours equal SciPy's functions."""
    image, banks = noise(24, 31), kernels.banks()
    across = banks["prewitt"].kernels["across (x)"]
    assert kernels.respond(image, across) == pytest.approx(ndimage.prewitt(image, 1, mode="mirror"), abs=1e-5)
    four = banks["laplacian"].kernels["4 neighbours"]
    assert kernels.respond(image, four) == pytest.approx(ndimage.laplace(image, mode="mirror"), abs=1e-5)


def test_named_kernels_do_not_respond_to_brightness():
    """Every named kernel sums to zero: a constant image has no response."""
    for bank in kernels.banks().values():
        for kernel in bank.kernels.values():
            assert abs(kernel.sum()) < 1e-6 * abs(kernel).sum() + 1e-7


@pytest.mark.parametrize("number", range(kernels.ORIENTATIONS))
def test_gabor_finds_the_direction_of_a_wave(number):
    """The kernel in the direction of a wave has the strongest response to it."""
    angle = np.deg2rad(180 * number / kernels.ORIENTATIONS)
    y, x = np.mgrid[:64, :64]
    wave = (0.5 + 0.5 * np.cos(2 * np.pi / 8 * (x * np.cos(angle) + y * np.sin(angle)))).astype(np.float32)
    responses = [kernels.respond(wave, kernel) for kernel in kernels.banks()["gabor"].kernels.values()]
    assert np.argmax([abs(item[16:48, 16:48]).mean() for item in responses]) == number
    sizes, index = kernels.strongest(responses)
    assert (sizes == np.abs(responses).max(0)).all()
    assert np.bincount(index[16:48, 16:48].ravel()).argmax() == number


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("0 -1 0; -1 5 -1; 0 -1 0", (3, 3)),
        ("1,2\n3,4\n", (2, 2)),
        ("1/9 1/9\t1/9", (1, 3)),
        ("# blur\r\n1, 2, 1,\r\n\r\n", (1, 3)),
        ("-1e-2", (1, 1)),
    ],
)
def test_a_kernel_may_be_written_in_several_ways(text, shape):
    """Spaces, commas, tabs, semicolons, lines, fractions and comments are parsed."""
    kernel = kernels.parse(text)
    assert kernel.shape == shape
    assert kernel.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "is empty"),
        (" ; \n", "is empty"),
        ("1 2; 3", "row 2 has 1 numbers, row 1 has 2"),
        ("1 two; 3 4", '"two" in row 1'),
        ("1 nan", "not a finite number"),
        ("1 1/0", "not a finite number"),
        ("1 inf", "not a finite number"),
        (";".join(["1"] * 64), "64×1"),
    ],
)
def test_an_error_names_the_row_of_a_malformed_kernel(text, fact):
    """Malformed text is one error with the row and the word."""
    with pytest.raises(ParamsError, match=fact.replace("(", r"\(")):
        kernels.parse(text)

"""Corner detection from convolutions and products: Harris and Stephens (1988), Shi and Tomasi (1994).

A window that is moved over a flat area does not change, along an edge it changes in one direction, at a corner
in all. The matrix [[xx, xy], [xy, yy]] of smoothed products of the gradient says how much: its eigenvalues are
the largest and the smallest change.
"""

from __future__ import annotations

import cv2
import numpy as np

from darkroom.lab.kernels import respond

WINDOW = 1.5  # standard deviation of the window, in pixels
MAX_CORNERS = 60
LEAST = 0.02  # of the strongest response, below which there is no corner


def gaussian(sigma: float) -> np.ndarray:
    """Return a Gaussian window (h, h) float32 whose sum is 1."""
    steps = np.arange(-round(3 * sigma), round(3 * sigma) + 1)
    window = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma**2))
    return (window / window.sum()).astype(np.float32)


def gradient_products(grey: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return xx, xy and yy (H, W) of a grey image (H, W): products of the gradient, averaged over a window."""
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 4
    across, down = respond(grey, sobel), respond(grey, sobel.T)
    products = across * across, across * down, down * down
    xx, xy, yy = (respond(product, window) for product in products)
    return xx, xy, yy


def harris(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray, k: float = 0.05) -> np.ndarray:
    """Return det − k·trace² (H, W): positive at corners, negative along edges (Harris and Stephens 1988)."""
    return xx * yy - xy**2 - k * (xx + yy) ** 2


def shi_tomasi(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Return the smaller eigenvalue (H, W): large at corners alone (Shi and Tomasi 1994)."""
    return (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)


def find_peaks(response: np.ndarray, side: int = 9) -> list[tuple[int, int]]:
    """Return rows and columns of the strongest responses, the first one first: the largest of their neighbourhoods."""
    largest = cv2.dilate(response, np.ones((side, side), np.uint8))  # maximum pooling with stride 1
    rows, columns = np.nonzero((response == largest) & (response > LEAST * response.max()))
    order = np.argsort(-response[rows, columns], kind="stable")[:MAX_CORNERS]
    return [(int(rows[i]), int(columns[i])) for i in order]

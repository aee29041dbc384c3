"""A colour image as grey and as hue, saturation and value, written out: what OpenCV's `cvtColor` computes."""

from __future__ import annotations

import numpy as np


def luminance(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """Return the luma (H, W) of channels from 0 to 1, as the eye weights them (ITU-R BT.601)."""
    return 0.299 * red + 0.587 * green + 0.114 * blue


def to_hsv(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue in degrees, saturation and value (H, W) of channels from 0 to 1 (Smith 1978)."""
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    saturation = spread / np.where(value > 0, value, 1)
    step = np.where(spread > 0, spread, 1)  # grey has the hue 0
    from_green = np.where(value == green, 2 + (blue - red) / step, 4 + (red - green) / step)
    hue = np.where(value == red, (green - blue) / step, from_green)
    return (60 * hue) % 360, saturation, value

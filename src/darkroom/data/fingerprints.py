"""What is kept of a picture to compare it with others: two grey thumbnails and its local features.

A frame of one colour around a picture is left out first, so that it does not matter.
"""

from __future__ import annotations

import cv2
import numpy as np

from darkroom.data.local_features import FEATURE, MAX_FEATURES, frame_size, local_features
from darkroom.data.resizing import shrink

THUMBNAIL = 64  # pixels a side of the thumbnail that pairs are compared by
DETAILED = 128  # of the one that tells a copy from another photograph of the same scene
# width and height are those of the picture in which local features lie
SUMMARY = np.dtype(
    [("width", "u1"), ("height", "u1"), ("count", "u1"), ("features", FEATURE, MAX_FEATURES),
     ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL))]
)  # fmt: skip
FINGERPRINT = np.dtype([*SUMMARY.descr, ("detailed", "u1", (DETAILED, DETAILED))])
COVERED = 0.7  # of a picture that is not of one grey, below which it has no local features
_CENTRE = slice(DETAILED // 8, -DETAILED // 8)
_ONE_GREY = 1.5  # standard deviation
_TOLERANCE = 16  # grey levels within a frame
_OUTLIERS = 0.02  # of the pixels of a line of a frame
_EDGE = 0.5  # of the pixels of the line inside a frame that differ from it
_MIN_SIDE = 32  # pixels that are left
_LINES = 8  # looked at together


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """Return the fingerprint () FINGERPRINT of a grey picture (H, W) uint8."""
    inside = without_frame(grey)
    detailed = shrink(inside, DETAILED, DETAILED)
    share = covered(detailed)
    if inside.shape != grey.shape and min(share, covered(detailed[_CENTRE, _CENTRE])) < COVERED:  # a drawing, no frame
        inside, detailed = grey, shrink(grey, DETAILED, DETAILED)
        share = covered(detailed)
    kept = np.zeros((), FINGERPRINT)
    kept["width"], kept["height"] = frame_size(inside.shape[1], inside.shape[0])
    kept["detailed"] = detailed
    kept["thumbnail"] = cv2.resize(detailed, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    if share >= COVERED:
        features = local_features(inside)
        kept["count"], kept["features"][: len(features)] = len(features), features
    return kept


def covered(thumbnail: np.ndarray) -> float:
    """Return the share of 8 × 8 parts of a thumbnail (n, n) uint8 that are not of one grey.

    An object on a plain background looks like any other of its kind that is moved or enlarged.
    """
    values = thumbnail.astype(np.float32)
    mean, square = (cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA) for image in (values, values * values))
    return float((square - mean * mean > _ONE_GREY**2).mean())


def without_frame(grey: np.ndarray) -> np.ndarray:
    """Return the picture (H, W) inside a frame of one colour on some of its sides; without one, all of it.

    The edge of a frame is sharp along a side. The plain background of an object is no frame.
    """
    top, bottom = _margin(grey), _margin(grey[::-1])
    if top + bottom > grey.shape[0] - _MIN_SIDE:
        return grey
    rows = grey[top : grey.shape[0] - bottom]
    left, right = _margin(rows.T), _margin(rows.T[::-1])
    if left + right > grey.shape[1] - _MIN_SIDE:
        return rows
    return rows[:, left : rows.shape[1] - right]


def _margin(grey: np.ndarray) -> int:
    """Return how many of the first lines of a picture (lines, pixels) are a frame."""
    some = np.sort(grey[0, ::8]).astype(np.int16)
    colour = int(some[len(some) // 2])
    if np.count_nonzero(np.abs(some - colour) > _TOLERANCE) > 4 * _OUTLIERS * len(some) + 1:
        return 0
    for begin in range(0, len(grey) // 2, _LINES):
        lines = grey[begin : begin + _LINES].astype(np.int16)
        picture = np.flatnonzero((np.abs(lines - colour) > _TOLERANCE).mean(axis=1) > _OUTLIERS)
        if len(picture):
            edge = begin + int(picture[0])
            inside = grey[min(edge + 1, len(grey) - 1)].astype(np.int16)  # the line at the edge mixes both
            is_sharp = (np.abs(inside - colour) > _TOLERANCE).mean() >= _EDGE
            return edge + 1 if edge and is_sharp else 0
    return 0

"""Faults of pictures that decode: too dark, too bright, blurry, almost empty, extreme aspect ratio.

The kinds are those of CleanVision (https://github.com/cleanlab/cleanvision). The figures are measured on a
grey version of about 256 pixels while the picture is in memory. Pictures below 64 pixels a side have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darkroom.data.resizing import shrink

THUMBNAIL = 64  # pixels a side of the grey version for brightness and entropy
DARK = 0.32  # 99% of the picture is darker
BRIGHT = 0.95  # 95% of the picture is brighter
EMPTY = 3.0  # bits of entropy of the grey values
BLURRY = 5.0  # mean difference in grey levels (of 255) between neighbouring pixels, in the sharpest of 64 parts
ODD_ASPECT = 0.35  # short side by long side

ISSUES = {
    "damaged": ("damaged in part", "check it: the decoder had to guess; copy it again from where it came"),
    "dark": ("too dark", "brighten it, or remove it if nothing can be seen"),
    "bright": ("too bright", "remove it if it is overexposed"),
    "blurry": ("blurry", "keep it if the classifier will meet such pictures, else remove it"),
    "low_information": ("almost without content", "remove it unless the class looks like this"),
    "odd_aspect": ("extreme aspect ratio", "crop it to the subject: ingest.resize crop cuts off most of it, stretch distorts it"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of a picture: brightness percentiles in 0…1, entropy in bits, sharpness in grey levels."""

    darkest: float  # 5th percentile
    brightest: float  # 99th percentile
    entropy: float
    sharpness: float

    def issues(self) -> tuple[str, ...]:
        issues = []
        if self.brightest < DARK:
            issues.append("dark")
        if self.darkest > BRIGHT:
            issues.append("bright")
        if self.entropy < EMPTY:
            issues.append("low_information")
        elif self.sharpness < BLURRY and not issues:
            issues.append("blurry")
        return tuple(issues)


def odd_aspect(width: int, height: int) -> bool:
    return min(width, height) < ODD_ASPECT * max(width, height)


def examine(image: np.ndarray) -> tuple[Figures, np.ndarray] | None:
    """Return the figures of an RGB image (H, W, 3) uint8, and the grey version of about 256 pixels that they are
    measured on, (h, w) uint8.

    None below 64 pixels a side.
    """
    if min(image.shape[:2]) < THUMBNAIL:
        return None
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    factor = max(grey.shape) // 256
    if factor > 1 and min(grey.shape) // factor >= THUMBNAIL:
        grey = shrink(grey, grey.shape[1] // factor, grey.shape[0] // factor)
    thumbnail = shrink(grey, THUMBNAIL, THUMBNAIL)
    counts = np.bincount(thumbnail.ravel(), minlength=256)
    cumulative = counts.cumsum()
    shares = counts[counts > 0] / thumbnail.size
    # unsigned, so negative values are cut off: twice the mean of the rest is the mean magnitude
    edges = cv2.Laplacian(grey, cv2.CV_8U)
    return Figures(
        darkest=int(cumulative.searchsorted(0.05 * thumbnail.size)) / 255,
        brightest=int(cumulative.searchsorted(0.99 * thumbnail.size)) / 255,
        entropy=-float(shares @ np.log2(shares)),
        sharpness=2 * float(cv2.resize(edges, (8, 8), interpolation=cv2.INTER_AREA).max()),
    ), grey

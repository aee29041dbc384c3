"""What can be wrong with a picture although it decodes: too dark, too bright, blurry, empty, oddly long.

The kinds are those of CleanVision (https://github.com/cleanlab/cleanvision); the figures are measured on a grey version of about
256 pixels while the picture is in memory, so that nothing is read twice. Pictures below 64 pixels a side have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darkroom.data.decoding import shrink

THUMBNAIL = 64  # pixels a side of the grey version that figures and the search for near duplicates use
DARK = 0.32  # 99% of the picture is darker
BRIGHT = 0.95  # 95% of the picture is brighter
EMPTY = 3.0  # bits of entropy of the grey values
BLURRY = 5.0  # grey levels (of 255) by which a pixel differs from its neighbours in the sharpest part
ODD_ASPECT = 0.35  # short side by long side

ISSUES = {
    "damaged": ("damaged in part", "look at it: the decoder had to guess; copy it again from where it came"),
    "dark": ("too dark", "look whether anything can be seen; brighten or remove it"),
    "bright": ("too bright", "look whether anything can be seen; remove it if it is overexposed"),
    "blurry": ("blurry", "keep it if such pictures will come in use, else remove it"),
    "low_information": ("almost without content", "remove it unless it is the class's own look"),
    "odd_aspect": ("oddly long", "crop it to the subject: ingest.resize crop cuts off most of it, stretch distorts it"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a picture: brightness percentiles in 0…1, entropy in bits, sharpness in grey levels."""

    darkest: float  # the brightness that 5% of the picture stay below
    brightest: float  # the brightness that 99% of the picture stay below
    entropy: float
    sharpness: float

    def issues(self) -> tuple[str, ...]:
        found = []
        if self.brightest < DARK:
            found.append("dark")
        if self.darkest > BRIGHT:
            found.append("bright")
        if self.entropy < EMPTY:
            found.append("low_information")
        elif self.sharpness < BLURRY and not found:
            found.append("blurry")
        return tuple(found)


def odd_aspect(width: int, height: int) -> bool:
    return min(width, height) < ODD_ASPECT * max(width, height)


def examine(whole: np.ndarray) -> tuple[Figures, np.ndarray] | None:
    """Return the figures of an RGB picture (H, W, 3) uint8 and its thumbnail (64, 64) uint8 grey; None below 64 pixels a side."""
    if min(whole.shape[:2]) < THUMBNAIL:
        return None
    grey = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY)
    times = max(grey.shape) // 256
    if times > 1 and min(grey.shape) // times >= THUMBNAIL:
        grey = shrink(grey, grey.shape[1] // times, grey.shape[0] // times)
    thumbnail = shrink(grey, THUMBNAIL, THUMBNAIL)
    counts = np.bincount(thumbnail.ravel(), minlength=256)
    reached = counts.cumsum()
    shares = counts[counts > 0] / thumbnail.size
    edges = cv2.Laplacian(grey, cv2.CV_8U)  # the negative half is cut off: twice the mean of the rest is that of the whole
    return Figures(
        darkest=int(reached.searchsorted(0.05 * thumbnail.size)) / 255,
        brightest=int(reached.searchsorted(0.99 * thumbnail.size)) / 255,
        entropy=-float(shares @ np.log2(shares)),
        sharpness=2 * float(cv2.resize(edges, (8, 8), interpolation=cv2.INTER_AREA).max()),
    ), thumbnail

"""Common corruptions (Hendrycks and Dietterich 2019): what happens to photographs that nobody trained on, in five severities.

Strengths for 32 and for 224 pixels are the authors' for CIFAR-10-C and ImageNet-C where Albumentations has the same thing (motion
blur and snow are its own); for sizes between them they are interpolated geometrically, beyond them they stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from darkroom.augmentation import lean
from darkroom.augmentation.views import Drawn, digest

SEVERITIES = 5
SMALL, LARGE = 32, 224
Strengths = tuple[float, float, float, float, float]


class Corruption(NamedTuple):
    """What kind of thing it is, how strong it is at 32 and 224 pixels, and how Albumentations makes it."""

    kind: str
    small: Strengths
    large: Strengths
    make: Callable[[Any, float], Any]

    def strength(self, severity: int, size: int) -> float:
        """Return the strength of a severity from 1 to 5 for images of `size` pixels a side."""
        share = min(max(math.log(size / SMALL) / math.log(LARGE / SMALL), 0), 1)
        return self.small[severity - 1] ** (1 - share) * self.large[severity - 1] ** share


_BOXES = {"downscale": 3, "upscale": 3}  # OpenCV's INTER_AREA


def _odd(length: float) -> int:
    return 2 * round((length - 1) / 2) + 1


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38),
        lambda a, deviation: a.GaussNoise(std_range=(deviation, deviation), p=1)),
    "shot_noise": Corruption("noise", (1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50), (1 / 60, 1 / 25, 1 / 12, 1 / 5, 1 / 3),
        lambda a, scale: a.ShotNoise(scale_range=(scale, scale), p=1)),
    "impulse_noise": Corruption("noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27),
        lambda a, share: a.SaltAndPepper(amount=(share, share), salt_vs_pepper=(0.5, 0.5), p=1)),
    "gaussian_blur": Corruption("blur", (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6),
        lambda a, sigma: a.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1)),
    "motion_blur": Corruption("blur", (3, 5, 7, 9, 11), (9, 15, 21, 27, 33),
        lambda a, length: a.MotionBlur(
            blur_limit=(_odd(length), _odd(length)), allow_shifted=False, direction_range=(0, 0), p=1)),
    "zoom_blur": Corruption("blur", (0.06, 0.11, 0.16, 0.21, 0.26), (0.11, 0.16, 0.21, 0.26, 0.31),
        lambda a, more: a.ZoomBlur(max_factor=(1 + more, 1 + more), step_factor=(0.02, 0.02), p=1)),
    "fog": Corruption("weather", (0.2, 0.5, 0.75, 1, 1.5), (1.5, 2, 2.5, 2.5, 3),
        lambda a, density: a.Sequential([  # light of a plasma fractal over the image, and both scaled back into the range
            a.RandomBrightnessContrast(brightness_limit=(0, 0), contrast_limit=(-density / (1 + density),) * 2, p=1),
            a.PlasmaBrightnessContrast(brightness_range=(density / (1 + density),) * 2, contrast_range=(0, 0), roughness=0.4, p=1),
        ], p=1)),
    "snow": Corruption("weather", (0.05, 0.1, 0.2, 0.3, 0.4), (0.05, 0.1, 0.2, 0.3, 0.4),
        lambda a, amount: a.RandomSnow(brightness_coeff=2.5, snow_point_range=(amount, amount), method="bleach", p=1)),
    "brightness": Corruption("light", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda a, more: a.RandomBrightnessContrast(brightness_limit=(more, more), contrast_limit=(0, 0), p=1)),
    "contrast": Corruption("light", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05),
        lambda a, left: a.ColorJitter(brightness=(1, 1), contrast=(left, left), saturation=(1, 1), hue=(0, 0), p=1)),
    "pixelate": Corruption("digital", (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25),
        lambda a, scale: a.Downscale(scale_range=(scale, scale), interpolation_pair=_BOXES, p=1)),
    "jpeg": Corruption("digital", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7),
        lambda a, quality: a.ImageCompression(quality_range=(round(quality),) * 2, p=1)),
}  # fmt: skip


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return images (N, S, S, 3) uint8 with a corruption of a severity from 1 to 5.

    What is drawn by chance for an image depends on its pixels, the corruption and the seed alone, and is the same at every
    severity, so that one severity differs from the next in nothing but strength.
    """
    chosen, drawn = CORRUPTIONS[name], []
    pipeline = Drawn([chosen.make(lean.albumentations(), chosen.strength(severity, images.shape[1]))])
    for image in images:
        image = np.ascontiguousarray(image)
        drawn.append(pipeline(image, f"{seed}:{name}:", digest(image)))
    return np.stack(drawn)

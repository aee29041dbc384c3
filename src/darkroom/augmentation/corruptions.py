"""Common corruptions of photographs in five severities (Hendrycks and Dietterich 2019).

Strengths for 32 and for 224 pixels are the authors' for CIFAR-10-C and ImageNet-C, except those of motion
blur and snow, which Albumentations makes in another way. Between these sizes they are interpolated
geometrically, beyond them they are constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np

from darkroom.augmentation.lean import albumentations as A
from darkroom.augmentation.views import SeededPipeline, pixel_digest

SEVERITIES = 5
SMALL, LARGE = 32, 224
Strengths = tuple[float, float, float, float, float]


class Corruption(NamedTuple):
    """Its kind, its strengths at 32 and 224 pixels, and the Albumentations transform of a strength."""

    kind: str
    small: Strengths
    large: Strengths
    make: Callable[[float], Any]

    def strength(self, severity: int, size: int) -> float:
        """Return the strength of a severity from 1 to 5 for images of `size` pixels a side."""
        share = min(max(math.log(size / SMALL) / math.log(LARGE / SMALL), 0), 1)
        return self.small[severity - 1] ** (1 - share) * self.large[severity - 1] ** share


_BOXES = {"downscale": 3, "upscale": 3}  # OpenCV's INTER_AREA


def _odd(length: float) -> int:
    return 2 * round((length - 1) / 2) + 1


def _brighten(image: np.ndarray, more: float, **_: Any) -> np.ndarray:
    """Return an image (H, W, 3) uint8 whose value in HSV is higher by `more`, as the authors' is."""
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def _lower_contrast(image: np.ndarray, left: float, **_: Any) -> np.ndarray:
    """Return an image (H, W, 3) uint8 with this share of its distance from the mean of each channel, as the authors' is."""
    mean = image.mean((0, 1), dtype=np.float32)
    return np.rint(np.clip((image - mean) * left + mean, 0, 255)).astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38),
        lambda deviation: A.GaussNoise(std_range=(deviation, deviation), p=1)),
    "shot_noise": Corruption("noise", (1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50), (1 / 60, 1 / 25, 1 / 12, 1 / 5, 1 / 3),
        lambda scale: A.ShotNoise(scale_range=(scale, scale), p=1)),
    "impulse_noise": Corruption("noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27),
        lambda share: A.SaltAndPepper(amount=(share, share), salt_vs_pepper=(0.5, 0.5), p=1)),
    "gaussian_blur": Corruption("blur", (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6),
        lambda sigma: A.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1)),
    "motion_blur": Corruption("blur", (3, 5, 7, 9, 11), (9, 15, 21, 27, 33),
        lambda length: A.MotionBlur(
            blur_limit=(_odd(length), _odd(length)), allow_shifted=False, direction_range=(0, 0), p=1)),
    "zoom_blur": Corruption("blur", (0.06, 0.11, 0.16, 0.21, 0.26), (0.11, 0.16, 0.21, 0.26, 0.31),
        lambda more: A.ZoomBlur(max_factor=(1 + more, 1 + more), step_factor=(0.02, 0.02), p=1)),
    "fog": Corruption("weather", (0.2, 0.5, 0.75, 1, 1.5), (1.5, 2, 2.5, 2.5, 3),
        lambda density: A.Sequential([  # the light of a plasma fractal over the image, scaled back into the range
            A.RandomBrightnessContrast(brightness_limit=(0, 0), contrast_limit=(-density / (1 + density),) * 2, p=1),
            A.PlasmaBrightnessContrast(brightness_range=(density / (1 + density),) * 2, contrast_range=(0, 0), roughness=0.4, p=1),
        ], p=1)),
    "snow": Corruption("weather", (0.05, 0.1, 0.2, 0.3, 0.4), (0.05, 0.1, 0.2, 0.3, 0.4),
        lambda amount: A.RandomSnow(brightness_coeff=2.5, snow_point_range=(amount, amount), method="bleach", p=1)),
    "brightness": Corruption("light", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda more: A.Lambda(image=partial(_brighten, more=more), p=1)),
    "contrast": Corruption("light", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05),
        lambda left: A.Lambda(image=partial(_lower_contrast, left=left), p=1)),
    "pixelate": Corruption("digital", (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25),
        lambda scale: A.Downscale(scale_range=(scale, scale), interpolation_pair=_BOXES, p=1)),
    "jpeg": Corruption("digital", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7),
        lambda quality: A.ImageCompression(quality_range=(round(quality),) * 2, p=1)),
}  # fmt: skip


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return images (N, S, S, 3) uint8 with a corruption of a severity from 1 to 5.

    The random draws for an image depend on its pixels, the corruption and the seed alone. They are the same
    at every severity, so that severities differ in strength alone.
    """
    corruption = CORRUPTIONS[name]
    pipeline = SeededPipeline([corruption.make(corruption.strength(severity, images.shape[1]))])
    contiguous = map(np.ascontiguousarray, images)
    return np.stack([pipeline(image, f"{seed}:{name}:", pixel_digest(image)) for image in contiguous])

"""Named augmentation policies: changes of a training image that keep its class.

A policy is a function with the decorator `policy`: from the size of an image in pixels to a list of Albumentations
transforms. Its name is the policy's, its docstring the summary; config/params.py reads the names from this file's
source. Images of at most 64 pixels are cropped less, since they have less to lose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darkroom.augmentation.lean import albumentations as A
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import cv2

Transforms = list[Any]
POLICIES: dict[str, Callable[[int], Transforms]] = {}


def policy(function: Callable[[int], Transforms]) -> Callable[[int], Transforms]:
    """Register a policy under the name of its function."""
    POLICIES[function.__name__] = function
    return function


@policy
def none(size: int) -> Transforms:
    """No change."""
    return []


@policy
def light(size: int) -> Transforms:
    """Mirror images, small shifts and rotations."""
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(scale=(0.9, 1.1), translate_percent=(-0.06, 0.06), rotate=(-8, 8), border_mode=cv2.BORDER_REFLECT_101, p=1),
    ]


@policy
def shifted(size: int) -> Transforms:
    """Small shifts and rotations, as in `light`, never mirrored: for signs, and whatever has a left and a right."""
    return light(size)[1:]


@policy
def standard(size: int) -> Transforms:
    """The usual recipe for photographs (Szegedy et al. 2015): random crops, mirror images, changed light."""
    return [
        A.RandomResizedCrop((size, size), scale=(0.7 if size <= 64 else 0.65, 1.0), ratio=(0.8, 1.25), p=1),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(-0.03, 0.03), p=0.8),
    ]


@policy
def strong(size: int) -> Transforms:
    """The standard recipe with larger changes, blur, noise, and patches cut out (DeVries and Taylor 2017)."""
    return [
        A.RandomResizedCrop((size, size), scale=(0.5 if size <= 64 else 0.25, 1.0), ratio=(0.75, 4 / 3), p=1),
        A.HorizontalFlip(p=0.5),
        A.Affine(rotate=(-20, 20), shear=(-10, 10), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4), hue=(-0.08, 0.08), p=0.8),
        A.ToGray(p=0.1),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.1))], p=0.25),
        A.CoarseDropout(num_holes_range=(1, 3), hole_height_range=(0.1, 0.25), hole_width_range=(0.1, 0.25), p=0.5),
    ]


@policy
def characters(size: int) -> Transforms:
    """For writing: rotated, slanted and bent (Simard et al. 2003), never mirrored."""
    return [
        A.Affine(
            scale={"x": (0.85, 1.1), "y": (0.85, 1.1)}, translate_percent=(-0.06, 0.06), rotate=(-12, 12), shear=(-10, 10),
            border_mode=cv2.BORDER_REPLICATE, p=1,
        ),
        A.ElasticTransform(alpha=size * 0.8, sigma=size * 0.14, border_mode=cv2.BORDER_REPLICATE, p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.15, p=0.5),
    ]  # fmt: skip


def mirrors(name: str) -> bool:
    """Return whether the mirror image of an image keeps its class under a policy."""
    return any(type(transform).__name__ == "HorizontalFlip" for transform in POLICIES[name](32))

"""Local features of a grey picture: places that are found again after a crop, a turn, a border or a banner.

A place is an extremum of the differences of Gaussians over position and scale (Lowe 2004, Distinctive Image
Features from Scale-Invariant Keypoints). The square around it is hashed as a whole picture is, by the signs
of the lowest coefficients of its discrete cosine transform. First the square is brought into one of its eight
orientations: that of which the first coefficients are positive and the horizontal one is the larger. So
pictures that are mirrored or rotated by 90°, 180° or 270° have the same hashes.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

LONG_SIDE = 96  # pixels of the picture in which places are looked for
MAX_FEATURES = 20  # of a picture, the strongest
FEATURE = np.dtype([("hash", "<u8"), ("x", "u1"), ("y", "u1"), ("radius", "u1"), ("orientation", "u1")])
UNUSED_BITS = (0, 1, 8)  # of a hash: the mean, and the two coefficients that the orientation makes positive
_POSITION_UNIT, _RADIUS_UNIT = LONG_SIDE / 255, 0.25  # pixels in a step of x and y, and of the radius
_OCTAVES, _SCALES = 3, 3  # factors of two in scale, and scales in each
_SIGMA = 1.5  # of the blur of the first scale, in pixels
_RADIUS = 4.0  # half the side of a square, in sigmas
_SLACK = 1.0  # pixels that a square may be outside the picture
_CONTRAST = 1.0  # grey levels of the difference of Gaussians
_PATCH = 16  # samples of a square in each direction
_LOW = 8  # frequencies in each direction
_BLURS = [_SIGMA * 2 ** (i / _SCALES) for i in range(_SCALES + 3)]
_STEPS = [(after**2 - before**2) ** 0.5 for before, after in pairwise(_BLURS)]
# of matching features: bits that may differ, shift in radii, ratio of sizes
_MATCH_DISTANCE, _MATCH_SHIFT, _MATCH_SCALE = 14, 0.35, 1.32
_ENOUGH = 3  # matches from which their places tell the transform better than one pair does
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_SAMPLES = (np.arange(_PATCH) + 0.5) / _PATCH
_OFFSETS = 2 * _SAMPLES - 1
_FINE_ENOUGH = (1.5 * _SIGMA, 3 * _SIGMA)  # pixels between samples from which the second and the third octave are used
_COSINES = np.stack([np.cos(np.pi * frequency * _SAMPLES) for frequency in range(_LOW)]).astype(np.float32)


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and the height of the picture in which places are found."""
    factor = LONG_SIDE / max(width, height)
    return max(8, round(width * factor)), max(8, round(height * factor))


def local_features(grey: np.ndarray) -> np.ndarray:
    """Return the features (n,) FEATURE of a picture (H, W) uint8, n ≤ MAX_FEATURES, the strongest first."""
    width, height = frame_size(grey.shape[1], grey.shape[0])
    while max(grey.shape) >= 2 * LONG_SIDE:  # halving first takes a third of the time
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    area = cv2.INTER_AREA if max(grey.shape) > LONG_SIDE else cv2.INTER_LINEAR
    frame = cv2.resize(grey, (width, height), interpolation=area).astype(np.float32)
    sheet = _Sheet.of(width, height)
    levels, differences = sheet.difference(frame)
    x, y, radius, strength = sheet.extrema(differences)
    inside = (np.minimum(x, y) - radius > -_SLACK) & (x + radius < width + _SLACK) & (y + radius < height + _SLACK)
    strength = np.where(inside, strength * np.sqrt(radius), 0)
    order = np.argsort(-strength, kind="stable")[: min(int(inside.sum()), MAX_FEATURES)]
    features = np.zeros(len(order), FEATURE)
    if len(order):
        x, y, radius = x[order], y[order], radius[order]
        features["hash"], features["orientation"] = _hash(_patches(levels, x, y, radius))
        features["x"], features["y"] = np.rint(x / _POSITION_UNIT), np.rint(y / _POSITION_UNIT)
        features["radius"] = np.minimum(np.rint(radius / _RADIUS_UNIT), 255)
    return features


def transforms(one: np.ndarray, other: np.ndarray, shape: np.ndarray, other_shape: np.ndarray) -> np.ndarray:
    """Return the transforms (M, 2, 3) that lay features (M,) FEATURE on others, from the unit squares of their
    pictures to those of the others.

    The shapes (M, 2) are the widths and heights of both pictures' frames.
    """
    centres, radii = _places(one)
    other_centres, other_radii = _places(other)
    matrices = _orientations(other) @ _orientations(one).transpose(0, 2, 1) * (other_radii / radii)[:, None, None]
    moved = other_centres - np.einsum("nij,nj->ni", matrices, centres)
    matrices = matrices * shape[:, None, :] / other_shape[:, :, None]
    return np.concatenate([matrices, (moved / other_shape)[:, :, None]], axis=2)


def match(
    one: np.ndarray, other: np.ndarray, transforms: np.ndarray, shape: np.ndarray, other_shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many features (M, k) FEATURE of pictures have about the same hash, place and size as one of
    others, (M, k), where transforms (M, 2, 3) lay them, and the transforms that fit their places best.

    A feature of radius 0 is none. The shapes (M, 2) are the widths and heights of both pictures' frames.
    """
    centres, radii = _places(one)
    other_centres, other_radii = _places(other)
    matrices = transforms[:, :, :2] * other_shape[:, :, None] / shape[:, None, :]
    scale = np.sqrt(np.abs(matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]))
    turned = centres @ matrices.transpose(0, 2, 1)
    moved = turned + (transforms[:, :, 2] * other_shape)[:, None]
    radii = (radii * scale[:, None])[:, :, None]
    other_radii = other_radii[:, None, :]
    across, down = (moved[:, :, None, i] - other_centres[:, None, :, i] for i in (0, 1))
    near = across * across + down * down < (_MATCH_SHIFT * np.minimum(radii, other_radii)) ** 2
    as_large = np.maximum(radii, other_radii) < _MATCH_SCALE * np.minimum(radii, other_radii)
    alike = np.bitwise_count(one["hash"][:, :, None] ^ other["hash"][:, None, :]) <= _MATCH_DISTANCE
    matches = near & as_large & alike
    present = matches.any(axis=2)
    counts = present.sum(axis=1)
    partner = np.take_along_axis(other_centres, matches.argmax(axis=2)[:, :, None], axis=1)
    factor, shift = _fit(turned, partner, present)
    refined = np.concatenate([transforms[:, :, :2] * factor[:, None, None], (shift / other_shape)[:, :, None]], axis=2)
    return counts, np.where((counts >= _ENOUGH)[:, None, None], refined, transforms)


def _fit(places: np.ndarray, others: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors (M,) and shifts (M, 2) that lay places (M, k, 2) on others with the least squares."""
    weights = present[:, :, None].astype(np.float32)
    total = np.maximum(weights.sum(axis=1), 1)
    mean, other_mean = (places * weights).sum(axis=1) / total, (others * weights).sum(axis=1) / total
    centred = (places - mean[:, None]) * weights
    spread = np.maximum((centred * centred).sum(axis=(1, 2)), 1e-6)
    factor = np.clip((centred * (others - other_mean[:, None])).sum(axis=(1, 2)) / spread, 0.5, 2)
    return factor, other_mean - mean * factor[:, None]


def _places(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (…, 2) and radii (…) of features (…) in pixels of the frame, float32."""
    centres = np.stack([features["x"], features["y"]], axis=-1).astype(np.float32) * np.float32(_POSITION_UNIT)
    return centres, features["radius"].astype(np.float32) * np.float32(_RADIUS_UNIT)


def _orientations(features: np.ndarray) -> np.ndarray:
    """Return the matrices (M, 2, 2) float32 that lead from the hashed squares to the picture."""
    bits = features["orientation"].astype(int)
    signs = np.stack([1 - 2 * (bits >> 1 & 1), 1 - 2 * (bits >> 2 & 1)], axis=1).astype(np.float32)
    turned = signs[:, :, None] * np.eye(2, dtype=np.float32)
    return np.where((bits & 1 == 1)[:, None, None], turned[:, ::-1], turned)


class _Sheet:
    """The place of each octave on one sheet of differences of Gaussians (levels, rows, columns), for pictures of
    one size.
    """

    def __init__(self, width: int, height: int) -> None:
        sizes = [(height, width)]
        for _ in range(_OCTAVES - 1):
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        self.shape = (len(_STEPS), height + sizes[1][0], width)
        corners = [(0, 0), (height, 0), (height, sizes[1][1])]
        self.octaves = [np.s_[:, y : y + rows, x : x + columns] for (y, x), (rows, columns) in zip(corners, sizes, strict=True)]
        self.inner = np.zeros((_SCALES, *self.shape[1:]), np.uint8)  # pixels around which a square is within the picture
        self.scale, self.x, self.y = (np.zeros(self.shape[1:], np.float32) for _ in range(3))
        for octave, ((top, left), (rows, columns)) in enumerate(zip(corners, sizes, strict=True)):
            place = self.octaves[octave][1:]
            for level in range(_SCALES):
                smallest = _RADIUS * _SIGMA * 2 ** ((level + 1) / _SCALES)
                margin = max(1, int(smallest - (_SLACK + 0.5) / 2**octave - 1.5))
                self.inner[level, top + margin : top + rows - margin, left + margin : left + columns - margin] = 1
            self.scale[place] = 2**octave
            self.y[place], self.x[place] = np.mgrid[:rows, :columns]
        steps = np.arange(-1, 2)
        rows_, columns_ = self.shape[1:]
        self.around = (steps[:, None, None] * rows_ * columns_ + steps[:, None] * columns_ + steps).ravel()

    @staticmethod
    @lru_cache(256)
    def of(width: int, height: int) -> _Sheet:
        return _Sheet(width, height)

    def difference(self, frame: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the first level of each octave, and the differences of Gaussians, of a picture (h, w) float32."""
        differences = np.zeros(self.shape, np.float32)
        level = _blur(frame, (_SIGMA**2 - 0.25) ** 0.5)  # pixels blur by a half
        levels = []
        for octave in self.octaves:
            levels.append(level)
            blurred = np.empty((len(_STEPS) + 1, *level.shape), np.float32)
            blurred[0] = level
            for i, step in enumerate(_STEPS):
                _blur(blurred[i], step, blurred[i + 1])
            np.subtract(blurred[1:], blurred[:-1], out=differences[octave])
            level = blurred[_SCALES][::2, ::2].copy()
        return levels, differences

    def extrema(self, differences: np.ndarray) -> np.ndarray:
        """Return x, y, radius and strength (4, n) of the extrema over position and scale, between pixels and
        levels.
        """
        middle = differences[1:-1]
        below = middle.reshape(-1, self.shape[2])  # all levels in one picture
        highest = cv2.compare(below, np.maximum(cv2.dilate(below, _NEIGHBOURS), _CONTRAST), cv2.CMP_EQ)
        lowest = cv2.compare(below, np.minimum(cv2.erode(below, _NEIGHBOURS), -_CONTRAST), cv2.CMP_EQ)
        extreme = np.bitwise_or(highest, lowest, dtype=np.uint8).reshape(middle.shape) & self.inner
        area = self.inner[0].size
        places = np.flatnonzero(extreme.view(bool))
        around = differences.ravel()[(places + area)[:, None] + self.around]
        signed = around * np.sign(around[:, 13:14])
        largest = signed[:, 13] >= signed.max(axis=1)
        level, place = np.divmod(places[largest], area)
        around = around[largest]
        value = around[:, 13]
        before, after = around[:, (4, 10, 12)], around[:, (22, 16, 14)]  # in scale, down and across
        curvature = before + after - 2 * value[:, None]
        peaks = np.clip((before - after) / 2 / np.where(np.abs(curvature) < 1e-6, 1e-6, curvature), -0.5, 0.5)
        scale = self.scale.ravel()[place]
        radius = _RADIUS * _SIGMA * 2 ** ((level + 1.5 + peaks[:, 0]) / _SCALES) * scale
        x, y = (values.ravel()[place] + peaks[:, i] for values, i in ((self.x, 2), (self.y, 1)))
        return np.stack([x * scale + 0.5, y * scale + 0.5, radius, np.abs(value)])


def _blur(image: np.ndarray, sigma: float, into: np.ndarray | None = None) -> np.ndarray:
    side = 2 * round(3 * sigma) + 1  # OpenCV's own are a third larger
    return cv2.GaussianBlur(image, (side, side), sigma, dst=into)


def _patches(levels: list[np.ndarray], x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the squares (n, 16, 16) float32 around (x, y), from the level that is as fine as their samples."""
    patches = np.empty((len(x), _PATCH, _PATCH), np.float32)
    octave = np.searchsorted(_FINE_ENOUGH, 2 * radius / _PATCH, side="right")
    scale = 0.5**octave
    step = (radius * scale)[:, None] * _OFFSETS
    across, down = np.empty((2, *patches.shape), np.float32)
    across[:] = (((x - 0.5) * scale)[:, None] + step)[:, None, :]
    down[:] = (((y - 0.5) * scale)[:, None] + step)[:, :, None]
    for number, level in enumerate(levels):
        chosen = np.flatnonzero(octave == number)
        if len(chosen):
            maps = across[chosen].reshape(-1, _PATCH), down[chosen].reshape(-1, _PATCH)
            sampled = cv2.remap(level, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            patches[chosen] = sampled.reshape(-1, _PATCH, _PATCH)
    return patches


def _hash(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes (n,) uint64 of squares (n, 16, 16) and their orientations (n,): 1 for swapped axes, 2
    for mirrored from left to right, 4 for upside down.
    """
    coefficients = _COSINES @ patches @ _COSINES.T
    swapped = np.abs(coefficients[:, 0, 1]) < np.abs(coefficients[:, 1, 0])
    coefficients = np.where(swapped[:, None, None], coefficients.transpose(0, 2, 1), coefficients)
    mirrored, inverted = coefficients[:, 0, 1] < 0, coefficients[:, 1, 0] < 0
    coefficients[mirrored, :, 1::2] *= -1
    coefficients[inverted, 1::2, :] *= -1
    bits = np.packbits((coefficients > 0).reshape(-1, _LOW * _LOW), axis=1, bitorder="little")
    return bits.view(np.uint64)[:, 0] & ~np.uint64(1), swapped + 2 * mirrored + 4 * inverted

"""The perceptual hash of a picture, and that of its mirror images and quarter turns.

The hash is the sign of the 63 lowest coefficients of a thumbnail's discrete cosine transform (pHash, Zauner
2010, Implementation and Benchmarking of Perceptual Image Hash Functions). Mirroring changes the sign of the
odd frequencies alone, and swapping the axes swaps frequencies, so the hash of a turned picture follows from
that of the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from darkroom.data.fingerprints import THUMBNAIL

PLAIN = 3.0  # standard deviation of grey below which a thumbnail has no hash
UNUSED_BITS = (0,)  # of a hash: the mean
_LOW = 8  # frequencies in each direction
_ODD_COLUMNS, _ODD_ROWS = np.uint64(0xAAAA_AAAA_AAAA_AAAA), np.uint64(0xFF00_FF00_FF00_FF00)


class Orientation(NamedTuple):
    """One of the eight ways to lay a square picture on itself: swap the axes, then mirror, then invert."""

    swapped: bool = False
    mirrored: bool = False  # left and right
    inverted: bool = False  # up and down

    @property
    def is_upright(self) -> bool:
        return not any(self)

    @property
    def is_own_inverse(self) -> bool:
        return not self.swapped or self.mirrored == self.inverted

    def of_pictures(self, pictures: np.ndarray) -> np.ndarray:
        """Return pictures (…, n, n) in this orientation."""
        turned = pictures.swapaxes(-2, -1) if self.swapped else pictures
        return turned[..., :: -1 if self.inverted else 1, :: -1 if self.mirrored else 1]

    def of_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """Return the hashes (N,) uint64 of pictures in this orientation."""
        if self.swapped:
            bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").reshape(-1, _LOW, _LOW)
            turned = bits.transpose(0, 2, 1).reshape(-1, _LOW * _LOW)
            hashes = np.packbits(turned, axis=1, bitorder="little").view(np.uint64)[:, 0]
        hashes = hashes ^ _ODD_COLUMNS if self.mirrored else hashes
        return hashes ^ _ODD_ROWS if self.inverted else hashes

    @property
    def transform(self) -> np.ndarray:
        """The transform (2, 3) from the unit square of a picture to that of the picture in this orientation."""
        matrix = np.eye(2)[::-1] if self.swapped else np.eye(2)
        flips = np.array([self.mirrored, self.inverted])
        return np.concatenate([matrix * np.where(flips, -1.0, 1.0)[:, None], flips[:, None].astype(float)], axis=1)


# all of them: of a rotation by 90° and the one by 270°, which are each other's inverse, one
ORIENTATIONS = tuple(
    Orientation(swapped, mirrored, inverted)
    for swapped, mirrored, inverted in (
        (False, False, False), (False, True, False), (False, False, True), (False, True, True),
        (True, False, False), (True, True, True), (True, True, False),
    )
)  # fmt: skip


def _cosines() -> np.ndarray:
    """Return the matrix (8, 64) from the rows of a thumbnail to its low frequencies."""
    positions = (np.arange(THUMBNAIL // 2) + 0.5) / (THUMBNAIL // 2)
    cosines = np.stack([np.cos(np.pi * frequency * positions) for frequency in range(_LOW)])
    return np.repeat(cosines / 2, 2, axis=1).astype(np.float32)


_COSINES = _cosines()


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes (N,) uint64 of thumbnails (N, 64, 64) uint8."""
    bits = ((_COSINES @ thumbnails.astype(np.float32) @ _COSINES.T) > 0).reshape(len(thumbnails), _LOW * _LOW)
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64).reshape(-1) & ~np.uint64(1)


def is_plain(thumbnails: np.ndarray) -> np.ndarray:
    """Return (N,) bool: thumbnails with too little contrast for a meaningful hash."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.einsum("nd,nd->n", flat, flat) < PLAIN**2 * flat.shape[1]

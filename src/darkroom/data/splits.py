"""Which split an image belongs to: decided by what it shows, so that the same picture is never in two."""

from __future__ import annotations

import hashlib


def position(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the group of identical images and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def assign(group: str, given: str, ready: frozenset[str], val_share: float, test_share: float, seed: int) -> str:
    """Return train, val or test.

    `given` is the split that the folder gives the image, and `ready` those that the folder has. A given split is
    respected; what the folder lacks is taken out of its training images. Adding or removing other images moves none.
    """
    if given in ("val", "test"):
        return given
    u = position(group, seed)
    test = 0.0 if "test" in ready else test_share
    val = 0.0 if "val" in ready else val_share
    if u < test:
        return "test"
    return "val" if u < test + val else "train"

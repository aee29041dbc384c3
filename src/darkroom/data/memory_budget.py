"""The bytes that decoding takes, and a number of bytes that several threads share."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# how decoders say that they lack memory
LACKS_MEMORY = re.compile(r"(cannot|failed to|unable to) alloc|bad.?alloc|insufficient memory|out of memory", re.IGNORECASE)
# of a pixel, at the peak of decoding (`python benchmarks/decoding_memory.py`)
PALETTE, ORDINARY, AVIF, WEBP, DEEP, DEEP_ALPHA, FLOAT = 5, 8, 12, 18, 17, 21, 33


def bytes_a_pixel(format: str, mode: str, has_deep_colours: bool) -> int:
    """Return the bytes of a pixel while the whole picture is decoded, by Pillow's names of its format and mode."""
    if has_deep_colours:
        return FLOAT if mode.endswith("32F") else DEEP_ALPHA if mode == "RGBA" else DEEP
    if format in ("WEBP", "AVIF"):
        return WEBP if format == "WEBP" else AVIF
    return PALETTE if mode in ("1", "L", "P") else ORDINARY


def bytes_of_jpeg(width: int, height: int, scale: int, is_progressive: bool) -> int:
    """Return the bytes that a JPEG takes while it is decoded at 1 / `scale`; a progressive one is kept as coefficients."""
    return width * height * (6 * is_progressive) + 6 * -(-width // scale) * -(-height // scale)


class MemoryBudget:
    """Bytes that threads reserve before they take them; what needs more than all of it waits until it is alone."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self.changed = threading.Condition()

    @contextmanager
    def reservation(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that waits for a number of bytes, which are given back at the block's end.

        Another call of it gives back what the one before has reserved: whoever holds bytes never waits for more.
        """
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            needed = min(count, self.size)
            with self.changed:
                self.free += reserved
                reserved = 0
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.free >= needed)
                self.free -= needed
                reserved = needed

        try:
            yield reserve
        finally:
            reserve(0)

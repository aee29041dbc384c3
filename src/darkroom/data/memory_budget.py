"""A number of bytes that several threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class MemoryBudget:
    """Bytes that threads reserve before they take them; what needs more than all of it waits until it is alone."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self.changed = threading.Condition()

    @contextmanager
    def reservation(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that waits for a number of bytes, which are given back at the block's end.

        Only the first call of it waits: whoever holds bytes never waits for more.
        """
        reserved = 0

        def reserve(count: int) -> None:
            nonlocal reserved
            if reserved:
                return
            needed = min(count, self.size)
            with self.changed:
                self.changed.wait_for(lambda: self.free >= needed)
                self.free -= needed
            reserved = needed

        try:
            yield reserve
        finally:
            if reserved:
                with self.changed:
                    self.free += reserved
                    self.changed.notify_all()

"""How far work is and how long it will take, on a terminal and in a log file."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import Any

from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from rich import console as rich_console
    from rich import progress as rich_progress


def duration(seconds: float) -> str:
    """Return a length of time in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def rate(per_second: float) -> str:
    """Return a speed in words: `310 a second`, `12 a minute`."""
    if per_second >= 1:
        return f"{per_second:,.0f} a second"
    return f"{per_second * 60:,.0f} a minute"


@cache
def _console() -> rich_console.Console:
    """Return the one console that nested displays share."""
    return rich_console.Console(stderr=True)


class Progress:
    """Counts work against a total and shows it on stderr. Use as a context manager.

    On a terminal it is a bar of rich's; elsewhere a line every `every` seconds, so that a log file stays short.
    """

    def __init__(self, description: str, total: int, unit: str = "images", every: float = 10.0) -> None:
        self.description, self.total, self.unit, self.every = description, total, unit, every
        self.done = 0
        self.note = ""
        self.bar: Any = None
        self.start = self.last = time.monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            words = [rich_progress.TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[state]")]
            bar = rich_progress.BarColumn()
            self.bar = rich_progress.Progress(words[0], bar, words[1], console=_console(), transient=True)
            self.every = 0.1
            self.task = self.bar.add_task(self.description, total=self.total, state="")
            self.bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.bar:
            self.bar.stop()
        if kind is None:
            print(self._line(final=True), file=sys.stderr, flush=True)

    def advance(self, by: int = 1, note: str = "") -> None:
        """Count `by` more as done; `note` is shown at the end of the line."""
        self.done += by
        self.note = note or self.note
        if time.monotonic() - self.last < self.every or self.done >= self.total:
            return
        self.last = time.monotonic()
        if self.bar:
            state = self._line().removeprefix(f"{self.description}: ")
            self.bar.update(self.task, completed=self.done, total=self.total, state=state)
        else:
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self, final: bool = False) -> str:
        elapsed = max(time.monotonic() - self.start, 1e-9)
        line = f"{self.description}: {self.done:,} of {self.total:,} {self.unit}"
        if final:
            line += f" in {duration(elapsed)}"
        elif self.done:
            line += f", {rate(self.done / elapsed)}, {duration(elapsed / self.done * (self.total - self.done))} left"
        return line + (f"  {self.note}" if self.note else "")

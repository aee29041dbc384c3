"""What is being done, how far it is and how long it will take, on a terminal and in a log file alike."""

from __future__ import annotations

import sys
import time


def duration(seconds: float) -> str:
    """Return a length of time as people say it: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(per_second: float) -> str:
    """Return a speed as people say it: `310 a second`, `12 a minute`."""
    if per_second >= 1:
        return f"{per_second:,.0f} a second"
    return f"{per_second * 60:,.0f} a minute"


class Progress:
    """Counts work done against a total and writes a line to stderr now and then.

    On a terminal the line is rewritten ten times a second at most; elsewhere a full line is written every
    `every` seconds, so that a log file stays short. Use as a context manager.
    """

    def __init__(self, what: str, total: int, unit: str = "images", every: float = 10.0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.live = sys.stderr.isatty()
        self.every = 0.1 if self.live else every
        self.done = 0
        self.note = ""
        self.start = self.last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._write(final=True)
        elif self.live:
            sys.stderr.write("\n")

    def advance(self, by: int = 1, note: str = "") -> None:
        self.done += by
        self.note = note or self.note
        if time.monotonic() - self.last >= self.every and self.done < self.total:
            self._write()

    def _write(self, final: bool = False) -> None:
        now = self.last = time.monotonic()
        elapsed = max(now - self.start, 1e-9)
        line = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}"
        if final:
            line += f" in {duration(elapsed)}"
        elif self.done:
            line += f", {rate(self.done / elapsed)}, {duration(elapsed / self.done * (self.total - self.done))} left"
        line += f"  {self.note}" if self.note else ""
        if self.live:
            sys.stderr.write("\r\x1b[K" + line + ("\n" if final else ""))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

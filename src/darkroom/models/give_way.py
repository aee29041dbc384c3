"""Threads that give way to other programs.

GNU OpenMP's threads spin while they wait for each other. Beside other load that is dear: a spinning thread keeps a core from
the thread that it waits for. libgomp spins far shorter where it manages more threads than there are CPUs
(GOMP_SPINCOUNT in its manual). So while the main thread has to wait for a core, a second team of threads, which do nothing,
makes it so. No result changes. `python benchmarks/busy.py` measures it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

import torch

SCHEDULER = Path("/proc/self/schedstat")  # of the main thread: nanoseconds on a core, and waiting for one
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # a person's own decide
INTERVAL = 0.5  # seconds between two looks
BUSY, FREE = 0.10, 0.03  # share of its time that the main thread waits for a core, from which and up to which
LOOKS = 4  # in a row without waiting, until the machine counts as free
GRAIN = 1 << 15  # numbers that a thread of torch's takes at least
LEAST = 0.1  # of the interval that the main thread wants to run, below which its waiting says nothing

_started = threading.Lock()


def start() -> None:
    """Watch from now on, once a process, whether the main thread has to wait for a core. Where that is not known, do nothing."""
    library = _gnu_openmp()
    if library and torch.get_num_threads() > 1 and not any(name in os.environ for name in SETTINGS) and _started.acquire(False):
        threading.Thread(target=_watch, args=[library], name="give way", daemon=True).start()


def _watch(library: ctypes.CDLL) -> None:
    team, free, before = None, 0, _times()
    while before:
        time.sleep(INTERVAL)
        now = _times()
        if now is None:
            return
        (ran, waited), before = (now[0] - before[0], now[1] - before[1]), now
        if ran + waited < LEAST * INTERVAL * 1e9:
            continue
        share = waited / (ran + waited)
        free = free + 1 if share <= FREE else 0
        if team is None and share >= BUSY:
            team = _IdleTeam(library)
        elif team and free >= LOOKS:
            team.end()
            team = None


class _IdleTeam:
    """Threads that do nothing, as many as make libgomp count more than there are CPUs."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.ended = library, threading.Event()
        self.thread = threading.Thread(target=self._hold, name="idle team", daemon=True)
        self.thread.start()

    def _hold(self) -> None:
        """Make a team in this thread, which lasts as long as the thread."""
        torch.ones(1).add_(1)  # torch sets its own number of threads at the first call in a thread
        count = self.library.omp_get_num_procs() + 1
        self.library.omp_set_num_threads(count)
        torch.ones(count * GRAIN).add_(1)  # a part for each
        self.ended.wait()

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def _times() -> tuple[int, int] | None:
    """Return the nanoseconds that the main thread has been on a core, and has waited for one; None where Linux does not tell."""
    try:
        ran, waited, _ = SCHEDULER.read_text().split()
        return int(ran), int(waited)
    except (OSError, ValueError):
        return None


def _gnu_openmp() -> ctypes.CDLL | None:
    """Return the GNU OpenMP library that torch has loaded, if it has."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "libgomp" in line}
    own = [path for path in paths if "torch" in path] or sorted(paths)
    return ctypes.CDLL(own[0]) if own else None

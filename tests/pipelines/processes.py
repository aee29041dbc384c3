"""Waiting for processes and for conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], timeout: float = 180.0) -> Value:
    """Wait until a condition returns a true value, and return the value.

    The longer it takes, the more seldom it is looked at: a server that is asked all the time has less for what is waited for.
    """
    started = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - started
        assert waited < timeout, "timed out"
        time.sleep(min(max(0.05, waited / 10), 0.5))
    return value


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

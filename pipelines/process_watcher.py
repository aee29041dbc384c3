"""End the process groups of an owner that has died: `python process_watcher.py [COMMAND]`, started by `process_groups`.

The owner writes `+GROUP` to this process's standard input when it has started a process group, `-GROUP` when
the group has ended, and `end` when it needs no watcher any more, a line each. The pipe closes when the owner
dies, however it dies: the groups that are left are ended, and where the owner did not write `end`, COMMAND is
run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def terminate(groups: Iterable[int]) -> None:
    """End process groups: SIGTERM, and SIGKILL for those that are still there after `GRACE` seconds."""
    left = [group for group in groups if send(group, signal.SIGTERM)]
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if send(group, 0)]
    for group in left:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether the group exists."""
    with contextlib.suppress(OSError):  # macOS reports EPERM for a group of zombies
        os.killpg(group, number)
        return True
    return False


def main() -> None:
    groups: set[int] = set()
    died = True
    for line in map(str.strip, sys.stdin):
        if line == "end":
            died = False
        else:
            (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    terminate(groups)
    if died and sys.argv[1:]:
        subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

"""The uploader as a background process, one per project.

It takes its lock before it imports MLflow: of the processes that short stages start one after another, one alone imports it.
"""

from __future__ import annotations

import os

from darkroom.core.lazy import lazy_imports
from darkroom.core.locks import hold
from darkroom.tracking.records import LOCK

with lazy_imports():
    from darkroom.tracking import uploader


def main() -> int:
    """Upload in the background, and return the exit code of the process; end at once where another process does so."""
    with hold(LOCK, wait=2) as acquired:  # others hold it for an instant, to see whether it is taken
        return uploader.upload_while_stages_work() if acquired else 0


if __name__ == "__main__":
    os.nice(5)  # stages come first
    raise SystemExit(main())

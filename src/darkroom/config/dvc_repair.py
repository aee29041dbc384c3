"""Files that DVC writes in place, and refuses once a kill has left them empty or cut off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from darkroom.config.dvc_graph import DVC, LOCK, Loader
from darkroom.core.locks import hold

SCHEMA = "2.0"  # of dvc.lock
DAMAGED_LOCK = Path(".darkroom/dvc.lock.damaged")
RUNNING = DVC / "tmp/rwlock"  # the paths that running stages use
GUARD = DVC / "tmp/rwlock.lock"  # held by DVC while it writes that


def repair() -> list[str]:
    """Move files that DVC would refuse out of its way; return a sentence about each.

    Without dvc.lock DVC finds the results in its run cache, and runs no stage again but those with a side effect.
    """
    sentences = []
    if is_lock_damaged():
        DAMAGED_LOCK.parent.mkdir(exist_ok=True)
        shutil.move(LOCK, DAMAGED_LOCK)
        sentences.append(
            f"{LOCK} was damaged, as by a kill while DVC wrote it: it is {DAMAGED_LOCK} now, and DVC uses its run cache"
        )
    if RUNNING.exists():
        with hold(GUARD, wait=10) as acquired:
            if acquired and not _is_json(RUNNING):
                RUNNING.unlink()
                sentences.append(f"{RUNNING}, DVC's list of running stages, was damaged by a kill: it is removed")
    return sentences


def is_lock_damaged() -> bool:
    """Return whether DVC would refuse dvc.lock.

    Nothing that DVC accepts counts as damaged; of what it refuses, a file cut off within a word may not.
    """
    if not LOCK.exists():
        return False
    try:
        content = yaml.load(LOCK.read_text(encoding="utf-8"), Loader)
        stages = content.get("stages", {}).values()
        items = [item["path"] for stage in stages for part in ("deps", "outs") for item in list(stage.get(part, []))]
        return content["schema"] != SCHEMA or not all(stage["cmd"] for stage in stages) or not all(items)
    except (UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True

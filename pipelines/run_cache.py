"""DVC's run cache, which a remote shares between machines: `python run_cache.py find|restore|save STAGE…`, a script as stage_graph.

The last line of the output is JSON. `find` prints `stages`, for each of several stages its content address (`key`, of its
command, dependencies, params and paths; empty where it has none), whether the run cache of this machine or of the remote has a
result for it (`is_cached`), and `lock`, the text of dvc.lock. `restore` brings that result here and writes dvc.lock, as `dvc
repro --pull` does; it never runs the stage. `save` puts the stage's result into the run cache, and the run cache into the remote.
The exit code is 75 where another process of DVC holds a lock.

DVC leaves stages with persisted outputs out of its run cache, since such a stage may build on its last outputs. A stage
of Darkroom replaces them, so here they are treated like all others. Stages with an output that DVC does not cache never come here:
the remote has no such output, and `register`, whose effect is elsewhere, must not be skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.stage import run
from dvc.stage.cache import _can_hash, _get_stage_hash

EX_TEMPFAIL = 75
LOCK = Path("dvc.lock")


class NotStoredError(DvcException):
    """DVC would run the stage."""


def find(repo: Repo, *names: str) -> dict[str, Any]:
    """Return what `find` prints, by stage, with the run cache of the remote in that of this machine."""
    repo.stage_cache.pull(None)
    lock = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    return {"stages": {name: {**_entry(repo, name), "lock": lock} for name in names}}


def _entry(repo: Repo, name: str) -> dict[str, Any]:
    stage = _collect(repo, name)
    stage.save_deps()
    key = _get_stage_hash(stage) if _can_hash(stage) else ""
    folder = Path(repo.stage_cache._get_cache_dir(key)) if key else Path()
    return {"key": key, "is_cached": bool(key) and folder.is_dir() and any(folder.iterdir())}


def restore(repo: Repo, name: str) -> dict[str, Any]:
    """Bring a result of the run cache here; raises NotStoredError where there is none for the dependencies as they are here."""
    entry = find(repo, name)["stages"][name]
    repo._reset()
    stage = _collect(repo, name)
    run.cmd_run = _refuse  # the script ends after this
    if not entry["is_cached"]:
        _refuse(stage)
    stage.reproduce(pull=True)
    stage.dump(update_pipeline=False)
    return {"key": entry["key"]}


def save(repo: Repo, name: str) -> dict[str, Any]:
    """Put the result of a stage that has run into the run cache, and that into the remote."""
    repo.stage_cache.save(_collect(repo, name))
    repo.stage_cache.push(None)
    return {}


def _collect(repo: Repo, name: str) -> Any:
    (stage,) = repo.stage.collect(name)
    for out in stage.outs:
        out.persist = False
    return stage


def _refuse(stage: Any, *_: Any, **__: Any) -> None:
    raise NotStoredError(f"the run cache has no result of {stage.addressing} for what it depends on here")


def main() -> int:
    action, *names = sys.argv[1:]
    try:
        with Repo() as repo, lock_repo(repo):
            actions: dict[str, Callable[..., dict[str, Any]]] = {"find": find, "restore": restore, "save": save}
            content = actions[action](repo, *names)
    except DvcException as error:
        print(json.dumps({"error": str(error)}))
        return EX_TEMPFAIL if isinstance(error, LockError) else 2
    print(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())

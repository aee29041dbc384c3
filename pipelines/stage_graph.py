"""Print DVC's stages as JSON, a script so that no flow imports DVC: `python stage_graph.py TARGETS FORCE`.

Both arguments are JSON: a list of targets and a boolean. The output has one key: `stages`, the stages that
the targets need, or `error`. The exit code is 75 where another process of DVC holds a lock, or writes
dvc.lock.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import networkx as nx
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo

RWLOCK = Path(".dvc/tmp/rwlock")
EX_TEMPFAIL = 75
RECENT = 10.0  # seconds since dvc.lock has changed
MAX_REASONS = 4  # changes that are listed per stage


def read_stages(targets: list[str], force: bool) -> dict[str, Any]:
    """Return the stages that the targets need, in topological order; without targets, those of dvc.yaml.

    A stage is `changed`, so that it may have to run, where DVC reports a change of it or where a stage above
    it is changed.
    """
    with Repo() as repo:
        edges = repo.index.graph
        requested = {stage for target in targets or ["dvc.yaml"] for stage in repo.stage.collect(target)}
        needed = edges.subgraph(requested.union(*(nx.descendants(edges, stage) for stage in requested)))
        order = list(nx.lexicographical_topological_sort(needed.reverse(), key=lambda stage: stage.addressing))
        names = sorted(stage.addressing for stage in order)
        status: dict[str, Any] = repo.status(targets=names) if names and not force else {}
        stages: dict[str, Any] = {}
        for stage in order:
            name, upstream = stage.addressing, sorted(item.addressing for item in needed.successors(stage))
            stages[name] = {
                "upstream": upstream,
                "changed": force or name in status or any(stages[item]["changed"] for item in upstream),
                "reasons": change_reasons(stage, status.get(name, [])),
                "outs": [out.def_path for out in stage.outs],
                "git_outs": [out.def_path for out in stage.outs if not out.use_cache],
                **inputs(stage, [out for item in needed.successors(stage) for out in item.outs]),
            }
        return stages


def inputs(stage: Any, outs: list[Any]) -> dict[str, Any]:
    """Return what a stage needs on another machine, where `outs` are the outputs of the stages above it.

    `files` are its dependencies that no stage makes, `inputs` the outputs of others that it reads, `gathered` its dependencies that
    are folders with such outputs in them. It is `portable` where DVC keeps all that it reads and writes, and runs a command.
    """
    pairs = [(dep, out) for dep in stage.deps for out in outs if _overlap(dep.fs_path, out.fs_path)]
    of_stages = {dep.def_path for dep, _ in pairs}
    kept = all(out.use_cache for out in [*(out for _, out in pairs), *stage.outs])
    return {
        "files": [dep.def_path for dep in stage.deps if dep.def_path not in of_stages],
        "inputs": sorted({_named_from(dep, out) for dep, out in pairs}),
        "gathered": sorted({dep.def_path for dep, out in pairs if Path(dep.fs_path) in Path(out.fs_path).parents}),
        "portable": bool(stage.cmd and stage.deps and stage.outs) and kept,
    }


def _named_from(dep: Any, out: Any) -> str:
    """Return the path of an output from the folder of a dependency's stage: that of a `.dvc` file may be another one."""
    folder = str(dep.fs_path).removesuffix(dep.def_path)
    return str(out.fs_path).removeprefix(folder) if folder != dep.fs_path else str(out.def_path)


def _overlap(path: str, other: str) -> bool:
    """Tell whether one of two paths is the other or lies in it."""
    return Path(path).is_relative_to(other) or Path(other).is_relative_to(path)


def change_reasons(stage: Any, status: list[Any]) -> list[str]:
    """Return the changes that DVC reports of a stage, such as `params.yaml modified`.

    A file that is not there is *missing*: DVC calls it deleted, also in a folder that never had it.
    """
    if status and not any(out.hash_info for out in stage.outs):
        return ["it has not run here yet"]
    inputs: list[str] = []
    others: list[str] = []
    for entry in status:
        for kind, changes in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            if not isinstance(changes, dict):
                others.append(str(kind))
                continue
            for path, change in changes.items():
                words = ", ".join(change) if isinstance(change, dict) else str(change)
                text = f"{path} {'missing' if words == 'deleted' else words}"
                (others if kind == "changed outs" else inputs).append(text)
    reasons = inputs or others  # a changed output matters only where no input has changed
    more = len(reasons) - MAX_REASONS
    return [*reasons[:MAX_REASONS], *([f"and {more} more"] if more > 0 else [])]


def remove_stale_rwlock(path: Path = RWLOCK) -> None:
    """Remove DVC's file of path locks where all processes in it have ended, or where its writer was killed.

    DVC ignores the entry of a process id that does not exist. It refuses to run for ever where another
    process has the id now, as after a restart of the machine or container, and where the file is truncated.
    """
    if not path.exists():
        return
    with make_lock(str(path.with_suffix(".lock")), tmp_dir=str(path.parent)):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            locks = [*entries.get("write", {}).values(), *(lock for locks in entries.get("read", {}).values() for lock in locks)]
            is_held = any(_is_older(int(lock["pid"]), path.stat().st_mtime) for lock in locks)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            is_held = False
        if not is_held:
            path.unlink()


def _is_older(pid: int, moment: float) -> bool:
    """Tell whether a process exists that began before a moment."""
    try:
        return psutil.Process(pid).create_time() <= moment + 1
    except psutil.NoSuchProcess:
        return False


def _is_being_written(error: DvcException) -> bool:
    """Tell whether an error is about a dvc.lock that has just changed: another DVC writes it in place."""
    path = Path(getattr(error, "path", None) or "")
    return path.name == "dvc.lock" and path.exists() and time.time() - path.stat().st_mtime < RECENT


def main() -> int:
    targets, force = map(json.loads, sys.argv[1:])
    try:
        remove_stale_rwlock()
        print(json.dumps({"stages": read_stages(targets, force)}))
    except DvcException as error:
        print(json.dumps({"error": str(error)}))
        return EX_TEMPFAIL if isinstance(error, LockError) or _is_being_written(error) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

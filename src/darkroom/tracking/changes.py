"""What differs between two runs of a pipeline, in a few words: the name of the second one in MLflow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from darkroom.config.dvc_graph import LockedStage

FIRST, NOTHING, FORCED = "first run", "nothing changed", "run again"
CODE = "src/"
SHOWN = 2  # changes that a name lists
LONGEST = 24  # characters of a value or file name in it

Stages = Mapping[str, LockedStage]


def describe(before: Stages, after: Stages, ran: Collection[str]) -> str:
    """Return the params that differ, `transfer.lr 0.003 → 0.01`; else changed files, new stages, or that nothing changed.

    `before` and `after` are the stages of dvc.lock after the earlier and the later run, `ran` the stages that the
    later one ran. Files that a stage writes are results, not changes. The text is empty where `after` is.
    """
    if not after:
        return ""
    if not before:
        return FIRST
    common = [name for name in after if name in before]
    params = _changed([(before[name].params, after[name].params) for name in common])
    if params:
        return _join([f"{name} {_short(old)} → {_short(new)}" for name, (old, new) in params.items()])
    outputs = {path for stage in after.values() for path in stage.outs}
    files = _changed([(before[name].deps, after[name].deps) for name in common])
    sources = [
        path for path in files if not any(str(item) in outputs for item in (PurePosixPath(path), *PurePosixPath(path).parents))
    ]
    for kind, is_code in (("data", False), ("code", True)):
        if names := [PurePosixPath(path).name for path in sources if path.startswith(CODE) == is_code]:
            return f"{kind}: {_join([_short(name) for name in names])}"
    if code := [name for name in common if before[name].code != after[name].code]:
        return f"code: {_join(code)}"
    if new := [name for name in after if name in ran and name not in before]:
        return f"new: {_join(new)}"
    return FORCED if ran else NOTHING


def _changed(pairs: list[tuple[Mapping[str, str], Mapping[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return old and new value of the keys that both sides of a pair have, with different values."""
    return {key: (old[key], new[key]) for old, new in pairs for key in new if key in old and old[key] != new[key]}


def _join(items: list[str]) -> str:
    rest = len(items) - SHOWN
    return ", ".join(items[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

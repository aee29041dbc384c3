"""What the package reads of DVC's files: a stage's command in dvc.yaml, and its outputs in dvc.lock."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from darkroom.config.params import read_yaml
from darkroom.core.errors import WorkspaceError

CACHE = Path(".dvc/cache/files/md5")


def command_options(stage: str, item: str | None) -> dict[str, str]:
    """Return the options of a stage's command as dvc.yaml gives them, `item` filled in: `{"out": "models/transfer/vgg16", …}`."""
    path = Path("dvc.yaml")
    if not path.exists():
        raise WorkspaceError(
            f"there is no dvc.yaml here ({Path.cwd()})",
            "run the command in the folder that holds it, or give all paths",
        )
    template = read_yaml(path)["stages"].get(stage, {}).get("cmd", "")
    words = shlex.split(re.sub(r"\$\{item[^}]*\}", item or "", template))
    return {word[2:]: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}


def names() -> list[str]:
    """Return the stages of dvc.yaml as DVC names them, `transfer@vgg16` for each item of a `matrix`."""
    settings, found = read_yaml(Path("params.yaml")), []
    for name, stage in read_yaml(Path("dvc.yaml"))["stages"].items():
        lists = [_interpolated(items, settings) for items in stage.get("matrix", {}).values()]
        found += ["@".join([name, *(["-".join(map(str, item))] if item else [])]) for item in product(*lists)]
    return found


def _interpolated(value: Any, settings: Any) -> list[Any]:
    """Return a list of dvc.yaml, which may be written as `${section.key}` of params.yaml."""
    if isinstance(value, list):
        return value
    for key in str(value).strip("${}").split("."):
        settings = settings[key]
    return list(settings)


def locked(lock: Path = Path("dvc.lock")) -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.lock, each with its `deps` and `outs`; none where there is no lock."""
    return parsed(lock.read_text(encoding="utf-8"), str(lock)) if lock.exists() else {}


def parsed(text: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the stages of the text of a dvc.lock, which messages call `name`."""
    import yaml

    # libyaml where it is there: the parser written in Python takes as long as all else that a stage starts with
    try:
        content: Any = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise WorkspaceError(
            f"{name} is not valid YAML: {error}", "delete it: `dvc repro` then looks at every stage again"
        ) from error
    stages = content.get("stages", {}) if isinstance(content, dict) else content or {}
    if not isinstance(stages, dict) or not all(map(_is_stage, stages.values())):
        raise WorkspaceError(f"{name} holds no stages as DVC writes them", "delete it: `dvc repro` then looks at every stage again")
    return stages


def _is_stage(entry: Any) -> bool:
    """Tell whether this is what dvc.lock has for a stage: its `deps` and `outs` are lists of mappings with a `path`."""
    if not isinstance(entry, dict):
        return False
    parts = [entry.get(key, []) for key in ("deps", "outs")]
    return all(isinstance(part, list) and all(isinstance(item, dict) and "path" in item for item in part) for part in parts)


def above(stages: dict[str, dict[str, Any]], of: Iterable[str]) -> set[str]:
    """Return the stages of dvc.lock on whose outputs, directly or not, the stages `of` depend, without these."""
    makers = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}
    found: set[str] = set()
    todo = list(of)
    while todo:
        for dep in stages.get(todo.pop(), {}).get("deps", []):
            path = dep["path"]
            for out, name in makers.items():
                if (out == path or out.startswith(f"{path}/") or path.startswith(f"{out}/")) and name not in found:
                    found.add(name)
                    todo.append(name)
    return found - set(of)


def consistent(stages: dict[str, dict[str, Any]]) -> set[str]:
    """Return the stages of dvc.lock that have read what the stages above them wrote last, as far as the lock tells."""
    written = {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
    torn = {
        name for name, stage in stages.items()
        if any(dep.get("md5") and written.get(dep["path"], dep["md5"]) != dep["md5"] for dep in stage.get("deps", []))
    }  # fmt: skip
    return {name for name in stages if name not in torn and not torn & above(stages, [name])}


def outputs(lock: Path = Path("dvc.lock")) -> dict[str, list[dict[str, Any]]]:
    """Return what dvc.lock holds of each stage's outputs."""
    return {name: stage.get("outs", []) for name, stage in locked(lock).items()}


def stored(digest: str, cache: Path = CACHE) -> Path:
    """Return where DVC's cache has the file or listing of this md5, if it has it."""
    return cache / digest[:2] / digest[2:]


def restore(stage: str, cache: Path = CACHE) -> list[str]:
    """Put back the outputs that the stage wrote last, from DVC's cache, where they are gone; return their paths.

    DVC removes a stage's outputs before it runs the stage. Where the stage then refuses its input, what was there before
    is still what dvc.lock says. With DVC's cache elsewhere nothing is found, and `dvc checkout` does the same.
    """
    done = []
    for out in outputs().get(stage, []):
        target, digest = Path(out["path"]), out.get("md5", "")
        if target.exists() or not digest:
            continue
        held = stored(digest, cache)
        if not held.exists():
            continue
        files = {target: held}
        if digest.endswith(".dir"):
            files = {target / item["relpath"]: stored(item["md5"], cache) for item in json.loads(held.read_text())}
        if not all(source.exists() for source in files.values()):
            continue
        for path, source in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        done.append(out["path"])
    return done

"""What the package reads of DVC's files: a stage's command in dvc.yaml, and its outputs in dvc.lock."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from darkroom.errors import WorkspaceError
from darkroom.params import read_yaml


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


def outputs(lock: Path = Path("dvc.lock")) -> dict[str, list[dict[str, Any]]]:
    """Return what dvc.lock holds of each stage's outputs."""
    if not lock.exists():
        return {}
    content = read_yaml(lock) or {}
    return {name: entry.get("outs", []) for name, entry in content.get("stages", {}).items()}


def restore(stage: str, cache: Path = Path(".dvc/cache/files/md5")) -> list[str]:
    """Put back the outputs that the stage wrote last, from DVC's cache, where they are gone; return their paths.

    DVC removes a stage's outputs before it runs the stage. Where the stage then refuses its input, what was there before
    is still what dvc.lock says. With DVC's cache elsewhere nothing is found, and `dvc checkout` does the same.
    """
    done = []
    for out in outputs().get(stage, []):
        target, digest = Path(out["path"]), out.get("md5", "")
        if target.exists() or not digest:
            continue
        stored = cache / digest[:2] / digest[2:]
        if not stored.exists():
            continue
        files = {target: stored}
        if digest.endswith(".dir"):
            listing = json.loads(stored.read_text())
            files = {target / item["relpath"]: cache / item["md5"][:2] / item["md5"][2:] for item in listing}
        if not all(source.exists() for source in files.values()):
            continue
        for path, source in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        done.append(out["path"])
    return done

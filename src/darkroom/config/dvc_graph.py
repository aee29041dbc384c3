"""What the package reads of DVC's files: commands of stages in dvc.yaml, and outputs in dvc.lock."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from darkroom.config.yaml_files import read_yaml
from darkroom.core import atomic, strict_json
from darkroom.core.errors import WorkspaceError

LOCK = Path("dvc.lock")
CODE = "code.yaml"  # the digests of the stages' code in a project elsewhere than the repository, see stage_code
DVC = Path(".dvc")
# All scalars are read as text, so that no folder name (`on`, `1e3`) is taken for something else.
Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True)
class LockedStage:
    """A stage of dvc.lock: the paths that it read and wrote, each with its md5 or an empty text, its params by flat name
    (`transfer.lr`), as text, its command, and the digest of its code where the project has no source files."""

    deps: dict[str, str]
    outs: dict[str, str]
    files: dict[str, int] = field(default_factory=dict)  # how many files each folder that it read had
    params: dict[str, str] = field(default_factory=dict)
    command: str = ""
    code: str = ""

    @property
    def outputs_sha256(self) -> str:
        """A sha256 that identifies its outputs: their paths and md5."""
        return hashlib.sha256("".join(sorted(f"{md5} {path}\n" for path, md5 in self.outs.items())).encode()).hexdigest()


def command_options(stage: str, item: str | None) -> dict[str, str]:
    """Return the options of a stage's command, for an item of its matrix: `{"out": "models/baseline", …}`."""
    path = Path("dvc.yaml")
    if not path.exists():
        raise WorkspaceError(
            f"there is no dvc.yaml here ({Path.cwd()})", "run the command in the folder that holds it, or give all paths"
        )
    template = read_yaml(path)["stages"].get(stage, {}).get("cmd", "")
    words = shlex.split(re.sub(r"\$\{item[^}]*\}", item or "", template))
    return {word[2:]: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}


def stage_names() -> list[str]:
    """Return the stages of dvc.yaml as DVC names them: `transfer@vgg16` for an item of a `matrix`."""
    params, names = read_yaml(Path("params.yaml")), []
    for name, stage in read_yaml(Path("dvc.yaml"))["stages"].items():
        lists = [interpolated(items, params) for items in stage.get("matrix", {}).values()]
        names += ["@".join([name, *(["-".join(map(str, item))] if item else [])]) for item in product(*lists)]
    return names


def interpolated(value: Any, params: Any) -> list[Any]:
    """Return a list of dvc.yaml, which may be written as `${section.key}` of params.yaml."""
    if isinstance(value, list):
        return value
    for key in str(value).strip("${}").split("."):
        params = params[key]
    return list(params)


def load_yaml(text: str | bytes) -> Any:
    """Return YAML as DVC writes it, its values as texts. Raises yaml.YAMLError, also where it is nested too deeply."""
    try:
        return yaml.load(text, Loader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error


def read_lock(path: Path = LOCK) -> dict[str, LockedStage]:
    """Return the stages of a dvc.lock by name; none where there is no such file."""
    return parse_lock(path.read_bytes(), str(path)) if path.exists() else {}


def parse_lock(text: str | bytes, name: str) -> dict[str, LockedStage]:
    """Return the stages in the text of a dvc.lock, which error messages call `name`."""
    try:
        content = load_yaml(text) or {}
        return {name: _locked(stage) for name, stage in (content.get("stages") or {}).items()}
    except yaml.YAMLError as error:
        problem = f"is not valid YAML: {error}"
    except (AttributeError, KeyError, TypeError, ValueError):
        problem = "holds no stages as DVC writes them"
    raise WorkspaceError(f"{name} {problem}", "delete it: `dvc repro` then checks every stage again")


def _locked(stage: dict[str, Any]) -> LockedStage:
    deps = stage.get("deps", [])
    files = {item["path"]: int(item["nfiles"]) for item in deps if "nfiles" in item}
    params = dict(stage.get("params", {}))
    code = "".join(flat_params({CODE: params.pop(CODE, {})}).values())
    return LockedStage(_digests(deps), _digests(stage.get("outs", [])), files, flat_params(params), str(stage.get("cmd", "")), code)


def _digests(items: list[dict[str, str]]) -> dict[str, str]:
    return {item["path"]: item.get("md5", "") for item in items}


def flat_params(files: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the params of all files by flat name; a list is one text."""
    flat: dict[str, str] = {}
    todo = [(key, value) for content in files.values() for key, value in content.items()]
    while todo:
        key, value = todo.pop(0)
        if isinstance(value, dict):
            todo += [(f"{key}.{inner}", item) for inner, item in value.items()]
        else:
            flat[key] = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return flat


def digests(paths: Iterable[str], lock: Path = LOCK) -> dict[str, str]:
    """Return the md5 of each path, or of the output that contains it, where dvc.lock has it."""
    outs = {path: md5 for stage in read_lock(lock).values() for path, md5 in stage.outs.items() if md5}
    nearest = {path: next((str(p) for p in (Path(path), *Path(path).parents) if str(p) in outs), None) for path in paths}
    return {path: outs[out] for path, out in nearest.items() if out}


def how_to_restore(path: Path) -> str:
    """Return the remedy for a file or folder that is damaged: the commands that bring it back where a stage wrote it."""
    place = Path(os.path.relpath(path))
    if ".darkroom" in place.parts:
        return f"delete it: `rm -r {shlex.quote(str(place))}`; it is made or downloaded again"
    with suppress(WorkspaceError, OSError, UnicodeDecodeError):  # of dvc.lock, which may be damaged too
        for stage, locked in read_lock().items():
            out = next((out for out in locked.outs if place == Path(out) or Path(out) in place.parents), None)
            if out:
                quoted = shlex.quote(out)
                return (
                    f"`dvc checkout --relink -f {quoted}` restores it from DVC's cache; where that is damaged too, `darkroom "
                    f"verify --cache` names the remedy; `dvc repro -f -s {shlex.quote(stage)}` makes it again"
                )
    return "copy it again from where it came, or make it again: `dvc repro`"


def upstream(stages: dict[str, LockedStage], names: Iterable[str]) -> set[str]:
    """Return the stages on whose outputs, directly or not, the stages `names` depend, without these."""
    makers = {out: name for name, stage in stages.items() for out in stage.outs}
    above: set[str] = set()
    todo = list(names)
    while todo:
        stage = stages.get(todo.pop())
        for path in stage.deps if stage else ():
            for out, name in makers.items():
                if (out == path or out.startswith(f"{path}/") or path.startswith(f"{out}/")) and name not in above:
                    above.add(name)
                    todo.append(name)
    return above - set(names)


def consistent(stages: dict[str, LockedStage]) -> set[str]:
    """Return the stages whose inputs, and those of all upstream stages, are the latest outputs."""
    outs = {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}
    outdated = {
        name for name, stage in stages.items() if any(md5 and outs.get(path, md5) != md5 for path, md5 in stage.deps.items())
    }
    return {name for name in stages if name not in outdated and not outdated & upstream(stages, [name])}


def cache_path(digest: str, root: Path = Path()) -> Path:
    """Return the path in DVC's cache of the file, or the listing of the folder, with this md5.

    `root` is the folder of the DVC repository.
    """
    return cache_folder(root) / "files" / "md5" / digest[:2] / digest[2:]


def cache_folder(root: Path = Path()) -> Path:
    """Return the folder of DVC's cache, which `cache.dir` of its settings may name."""
    folder = root / DVC
    for name in ("config.local", "config"):
        settings = configparser.ConfigParser(interpolation=None, strict=False)
        with suppress(configparser.Error, UnicodeDecodeError):
            settings.read(folder / name, encoding="utf-8")
        if settings.has_option("cache", "dir"):
            return folder / Path(settings.get("cache", "dir")).expanduser()
    return folder / "cache"


def md5(path: Path) -> str:
    """Return the md5 of a file, by which DVC names it in its cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def restore(stage: str) -> list[str]:
    """Restore missing outputs that the stage wrote last from DVC's cache; return their paths.

    DVC removes a stage's outputs before it runs the stage. A stage that then refuses its input would leave
    nothing, though dvc.lock still holds its former outputs. What is damaged in the cache is not restored, and nothing
    where only the user's own settings of DVC name its cache; `dvc checkout` does the same.
    """
    restored = []
    locked = read_lock().get(stage)
    for out, digest in locked.outs.items() if locked else ():
        target, source = Path(out), cache_path(digest)
        if target.exists() or not digest or not source.exists():
            continue
        files = {"": source}
        if digest.endswith(".dir"):
            files = {item["relpath"]: cache_path(item["md5"]) for item in strict_json.loads(source.read_text(encoding="utf-8"))}
        if all(file.exists() and md5(file) == file.parent.name + file.name for file in files.values()):
            with (atomic.new_folder if digest.endswith(".dir") else atomic.new_file)(target) as working:
                for name, file in files.items():
                    (working / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, working / name)
            restored.append(out)
    return restored

"""What DVC or a later stage would trip over in the project: its files, its graph, the place of the source."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from darkroom.config import dvc_graph, stage_code
from darkroom.config.params import Params
from darkroom.core import git
from darkroom.core.errors import ParamsError, SourceError, WorkspaceError

GRAPH = Path("dvc.yaml")
TRACKED = (
    GRAPH, dvc_graph.LOCK, stage_code.FILE, Path("studies/dvc.yaml"), Path("studies/dvc.lock"), Path("params.yaml"),
    Path(".dvc/config"),
)  # fmt: skip
TOOLS = (".git", ".dvc", ".darkroom", ".venv", ".prefect", "mlruns", "mlartifacts")  # folders of programs, no place for images
HEADERS = {"data/label_fixes.csv": "image,label", "data/splits.csv": "image,split"}  # of inputs that may be empty
_MARKER = re.compile(r"^(<{7}|>{7}|\|{7})( |$)|^={7}$", re.MULTILINE)
_VALUE = re.compile(r"\$\{([\w.]+)\}")
_APART = "put the {files} into a folder of their own, for example {example}, and name that"
EXAMPLES = {"images": "data/photos", "weight files": "data/weights"}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Output:
    """A path that a stage writes; `cached` where DVC keeps it in its cache, and git must not."""

    path: str
    stage: str
    cached: bool


@dataclass(frozen=True)
class Graph:
    """The paths of dvc.yaml, with params and matrices filled in."""

    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]


def check(settings: Params, runs: bool = True) -> None:
    """Raise a DarkroomError for what would stop DVC or a stage; a folder without dvc.yaml has nothing to check.

    Where nothing `runs`, as in another person's project, nothing needs to be written.
    """
    if not GRAPH.exists():
        return
    _check_dvc()
    graph = read_graph(settings)
    _check_inputs(graph, settings.ingest.source)
    _check_untracked(graph)
    if runs:
        _check_writable(graph)


def check_merged(path: Path) -> None:
    """Raise WorkspaceError where git left the markers of a merge in a file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except PermissionError as error:
        raise WorkspaceError(f"{path} cannot be read: permission denied", f"`chmod u+rw {path}`") from error
    marker = _MARKER.search(text) if "<<<<<<<" in text or ">>>>>>>" in text else None
    if marker:
        line = text.count("\n", 0, marker.start()) + 1
        after = "; `dvc repro` then corrects it" if path.name == "dvc.lock" else ""
        raise WorkspaceError(
            f"{path} has the markers of an unfinished merge, the first in line {line}",
            f"keep one of the two versions: `git checkout --ours {path}`, or --theirs, then `git add {path}`{after}",
        )


def _check_dvc() -> None:
    """Raise WorkspaceError outside of a DVC project, or of the git repository that DVC needs."""
    folders = [Path.cwd(), *Path.cwd().parents]
    home = next((folder for folder in folders if (folder / ".dvc").is_dir()), None)
    if home is None:
        raise WorkspaceError(
            f"there is no folder .dvc in {Path.cwd()}, so DVC does not know the project",
            "restore it: `git checkout .dvc`, or `dvc init`; a project is cloned with git, not copied without its hidden files",
        )
    config = home / ".dvc/config"
    without_git = config.is_file() and re.search(r"^\s*no_scm\s*=\s*true", config.read_text(errors="replace"), re.M | re.I)
    if not without_git and not any((folder / ".git").exists() for folder in folders):
        raise WorkspaceError(
            f"{Path.cwd()} is not in a git repository, which DVC needs",
            "`git init`, or `dvc config core.no_scm true` to do without git",
        )


def read_graph(settings: Params) -> Graph:
    """Return the inputs and outputs of dvc.yaml. Raises WorkspaceError where it is no graph of DVC."""
    values = settings.model_dump(by_alias=True)
    inputs: list[str] = []
    outputs: list[Output] = []
    try:
        for name, stage in dvc_graph.load_yaml(GRAPH.read_text(encoding="utf-8"))["stages"].items():
            for item in _items(stage.get("matrix", {}), values):
                filled = values | {"item": item}
                inputs += [path for path, _ in _paths(stage.get("deps", []), filled)]
                for kind in ("outs", "metrics", "plots"):
                    outputs += [
                        Output(path, name, options.get("cache") != "false") for path, options in _paths(stage.get(kind, []), filled)
                    ]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{GRAPH} is not valid YAML: {error}", f"correct it, or restore it: `git checkout {GRAPH}`") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{GRAPH} holds no stages as DVC reads them", f"restore it: `git checkout {GRAPH}`") from error
    return Graph(tuple(dict.fromkeys(inputs)), tuple(outputs))


def _items(matrix: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    lists = [items if isinstance(items, list) else _lookup(values, str(items).strip("${}")) for items in matrix.values()]
    for combination in product(*lists):
        yield dict(zip(matrix, combination, strict=True))


def _paths(entries: list[Any], values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in entries:
        path, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        yield _VALUE.sub(lambda match: str(_lookup(values, match[1])), path), options or {}


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def check_place(settings: Params) -> None:
    """Raise SourceError where a source or the folder of weights holds the project, lies in a folder of a program, or is what a
    stage writes."""
    outputs = read_graph(settings).outputs if GRAPH.exists() else ()
    for key, folder, files in (
        ("ingest.source", settings.ingest.source, "images"),
        ("weights.folder", settings.weights.folder, "weight files"),
    ):
        problem = _describe_place(Path(folder), outputs)
        if problem:
            error = SourceError(f"`{key}` is {folder}, {problem}", _APART.format(files=files, example=EXAMPLES[files]))
            error.setting = key
            raise error


def _describe_place(folder: Path, outputs: Iterable[Output]) -> str:
    """Return why a folder cannot be an input; empty where it can."""
    place, here = folder.resolve(), Path.cwd().resolve()
    if place == here or place in here.parents:
        return "which holds this project and so its own outputs"
    for tool in TOOLS:
        if place == here / tool or here / tool in place.parents:
            return f"in the folder {tool}, which a program keeps for itself"
    for output in outputs:
        path = (here / output.path).resolve()
        inside = place == path or path in place.parents
        if output.stage != "fetch" and (inside or place in path.parents):
            verb = "is" if place == path else "lies in" if inside else "holds"
            return f"which {verb} {output.path}, an output of the stage {output.stage}"
    return ""


def _check_inputs(graph: Graph, source: str) -> None:
    """Raise WorkspaceError for an input that is missing and that no stage writes."""
    outputs = {output.path for output in graph.outputs}
    for path in graph.inputs:
        if path == source or os.path.exists(path):
            continue
        above = {path, *(str(parent) for parent in Path(path).parents)}
        if above & outputs or any(out.startswith(f"{path}/") for out in outputs):
            continue
        header = HEADERS.get(path)
        empty = f", or write a file with the line `{header}`" if header else ""
        raise WorkspaceError(f"there is no {path}, which DVC needs as an input", f"restore it: `git checkout {path}`{empty}")


def _check_untracked(graph: Graph) -> None:
    """Raise WorkspaceError for an output in DVC's cache that git tracks too: DVC refuses it."""
    paths = [output.path for output in graph.outputs if output.cached]
    tracked = git.tracked(paths)
    if tracked:
        output = next(path for path in paths if tracked[0] == path or tracked[0].startswith(f"{path}/"))
        raise WorkspaceError(
            f"git tracks {tracked[0]}, and {output} is an output that DVC keeps",
            f"let DVC alone have it: `git rm -r --cached {output}`, then commit",
        )


def _check_writable(graph: Graph) -> None:
    """Raise WorkspaceError where an output cannot be written."""
    folders = {str(Path(output.path).parent) for output in graph.outputs} | {".", ".dvc"}
    for folder in sorted(folders):
        path = Path(folder)
        while not path.exists() and path != path.parent:
            path = path.parent
        if not path.is_dir():
            raise WorkspaceError(f"{path} is a file, and stages write into a folder of this name", f"move {path} away")
        if not os.access(path, os.W_OK | os.X_OK):
            raise WorkspaceError(f"{path} cannot be written: permission denied", f"`chmod u+rwx {path}`, or copy the project")


def check_mlflow(address: str) -> None:
    """Raise ParamsError where an address is none that MLflow can use; no server is asked."""
    origin = f"MLFLOW_TRACKING_URI is {address!r}"
    examples = "write the like of http://localhost:5000 or sqlite:////home/me/mlflow.db, or unset it: mlflow.db is used then"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ParamsError(f"{origin}, which is no address: {error}", examples) from error
    scheme = parts.scheme.lower().partition("+")[0]
    if scheme in ("http", "https") and any(character.isspace() for character in address):
        raise ParamsError(f"{origin}, which has a space in it", examples)
    if scheme in ("http", "https") and (not parts.hostname or port == 0):
        raise ParamsError(f"{origin}, which names no server", examples)
    if scheme == "sqlite":
        file = Path(address.partition(":///")[2])
        if ":///" not in address or not file.name:
            raise ParamsError(
                f"{origin}, which names no file", "three slashes and a path: sqlite:///mlflow.db; four for a whole path"
            )
        if not file.parent.is_dir():
            raise ParamsError(
                f"{origin}, and there is no folder {file.parent}", f"`mkdir -p {file.parent}`, or correct the address"
            )
    if scheme in ("", "file") and address != "databricks" and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        raise ParamsError(f"{origin}, a folder of files, which MLflow no longer writes", examples)
    if "://" not in address and scheme not in ("", "file", "databricks", *_DATABASES):
        raise ParamsError(f"{origin}, and {parts.scheme!r} is no kind of address", examples)

"""Recipes: named values for params.yaml, written in place with its comments and layout kept."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from darkroom.config import package_files, params
from darkroom.config.params import Params
from darkroom.core import atomic, user_paths
from darkroom.core.errors import DarkroomError, ParamsError, nearest

FOLDER = Path("recipes")
_PATHS = {  # keys with a path, and what it names
    "ingest.source": "a folder of images", "weights.folder": "a folder of weight files",
    "weights.pretrain_on": "a folder of classes", "fetch.source": "the folder of the data set's files",
}  # fmt: skip
_WORDS = (*params.SOURCES, *params.DATASETS, "download")
_ASSIGNMENTS = re.compile(r"\s+(?=[\w.]+=)")  # several KEY=VALUE in one text, as make passes them


def names() -> list[str]:
    """Return the names of the recipes: those of this folder, and those that come with Darkroom."""
    return sorted({path.stem for folder in (FOLDER, package_files.root() / FOLDER) for path in folder.glob("*.yaml")})


def _file(name: str) -> Path:
    return package_files.find(FOLDER / f"{name}.yaml")


def header(name: str) -> str:
    """Return the comment at the beginning of a recipe, without its `#`."""
    lines = []
    for line in _file(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return "\n".join(lines)


def values(name: str) -> dict[str, Any]:
    """Return the values of a recipe by `section.key`; raises ParamsError where there is no such recipe."""
    if name not in names():
        raise ParamsError(
            f'there is no recipe "{name}"{nearest(name, names())}; there are {", ".join(names())}', "`darkroom recipe --list`"
        )
    path = _file(name)
    content = params.read_yaml(path)
    if not isinstance(content, dict):
        raise ParamsError(f"{path} holds no values", f"restore it: `git checkout {path}`")
    flat: dict[str, Any] = {}
    for section, inner in content.items():
        flat |= {f"{section}.{key}": value for key, value in inner.items()} if isinstance(inner, dict) else {section: inner}
    return flat


def weights_of(settings: params.Params, weights: str | None) -> tuple[str, Path]:
    """Return the source of weights and their folder, as an option names them, else as the params do."""
    requested = requested_values(None, None, weights, ()) if weights else {}
    source = str(requested.get("weights.source", settings.weights.source))
    return source, Path(str(requested.get("weights.folder", settings.weights.folder)))


def requested_values(
    name: str | None, data: str | None, weights: str | None, settings: Sequence[str],
    locate: Callable[[str], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the values that a recipe, a folder of images, a source of weights and `KEY=VALUE` settings ask for, by key.

    `locate` returns the values for a source that is an address on the network.
    """
    requested = values(name) if name else {}
    if "weights.source" in requested:
        requested |= _weights(requested["weights.source"])
    if data is not None:
        requested |= {"ingest.source": data, "fetch.datasets": []}
        if name or _project_path(data) != _current_source():
            requested["ingest.split_by"] = "stratified"  # of a folder, which seldom has images to spare
    if weights is not None:
        requested |= _weights(weights)
    for key, value in (params.parse_assignment(item) for item in _assignments(settings)):
        requested |= _weights(value) if key == "weights.source" and isinstance(value, str) else {key: value}
    options = origins(name, data, weights, settings)
    source = requested.get("ingest.source")
    if locate and isinstance(source, str) and user_paths.is_address(source):
        try:
            requested |= locate(source)
        except DarkroomError as error:
            option = options["ingest.source"].partition("=")[0]
            raise type(error)(f"{option}: {error.problem}", error.remedy, error.retryable) from error
    for key, expected in _PATHS.items():
        value = requested.get(key)
        if isinstance(value, str) and value not in _WORDS:
            option = options[key].partition("=")[0]
            path = user_paths.expand(value, option, expected)
            user_paths.check_storable(path, option)
            requested[key] = str(path)
    for key in ("ingest.source", "weights.folder"):
        if isinstance(requested.get(key), str):
            requested[key] = _project_path(requested[key])
    return requested


def _weights(source: str) -> dict[str, str]:
    """Return the values for a source of weights, which is a word or a folder of weight files."""
    if source in ("folder", "package"):  # a package's neighbours are in the folder that is named
        return {"weights.source": source}
    if source in params.SOURCES:  # DVC looks for the folder also where it is not used
        return {"weights.source": source, "weights.folder": params.WEIGHTS}
    return {"weights.source": "folder", "weights.folder": source}


def origins(name: str | None, data: str | None, weights: str | None, settings: Sequence[str]) -> dict[str, str]:
    """Return where each requested value comes from: `--set transfer.lr=1`, `--data`, `recipe photos`."""
    result = dict.fromkeys((*values(name), "weights.folder"), f"recipe {name}") if name else {}
    if data is not None:
        result |= dict.fromkeys(("ingest.source", "fetch.datasets", "fetch.url", "fetch.version"), "--data")
    if weights is not None:
        result |= dict.fromkeys(("weights.source", "weights.folder"), "--weights")
    for item in _assignments(settings):
        key = params.parse_assignment(item)[0]
        result |= dict.fromkeys((key, "weights.folder") if key == "weights.source" else (key,), f"--set {item}")
    return result


def _assignments(settings: Sequence[str]) -> list[str]:
    return [item for text in settings for item in _ASSIGNMENTS.split(text.strip())]


def apply(
    path: Path, requested: dict[str, Any], check: Callable[[Params], object], option_by_key: Mapping[str, str] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Write values into a params file; return those that changed as `{key: (before, after)}`.

    The file keeps its bytes where a value is wrong: `check` raises a DarkroomError for params that no stage could use.
    The error names the option that a wrong value comes from, which `option_by_key` has by key.
    """
    original = params.read_yaml(path)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.Representer = _Representer
    content = yaml.load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ParamsError(f"{path} is not a mapping of sections", f"restore it: `git checkout {path}`")
    changed: dict[str, tuple[Any, Any]] = {}
    for key, value in requested.items():
        section, _, inner = key.partition(".")
        mapping, name = (content.setdefault(section, {}), inner) if inner else (content, section)
        if not isinstance(mapping, dict):
            raise ParamsError(f'unknown key "{key}"', "keys are section.key as in params.yaml, or backbones")
        before = mapping.get(name)
        if before != value or (type(before) is not type(value) and not isinstance(value, (list, float, int, str))):
            changed[key] = (list(before) if isinstance(before, list) else before, value)
            if isinstance(value, list):
                _write_list(mapping, name, value)
            else:
                mapping[name] = value
    stream = io.StringIO()
    yaml.dump(content, stream)
    settings = _parse(params.parse_yaml(stream.getvalue(), str(path)), original, path, option_by_key or {})
    try:
        check(settings)
    except DarkroomError as error:
        option = (option_by_key or {}).get(error.setting, "")
        if option and error.setting in changed:
            named = type(error)(f"{option}: {error.problem}", error.remedy, error.retryable)
            named.setting = error.setting
            raise named from error
        raise
    if changed:
        with atomic.new_file(path) as working:
            working.write_text(stream.getvalue(), encoding="utf-8")
    return changed


def _parse(content: Any, original: Any, path: Path, option_by_key: Mapping[str, str]) -> Params:
    """Return the params, or raise a ParamsError about the options where the file itself has none of the mistakes."""
    before = params.mistakes(original)
    introduced = [problem for problem in params.mistakes(content) if problem not in before]
    if not introduced or not option_by_key:
        return params.parse(content, str(path))
    named = {option for key, option in option_by_key.items() if any(_is_about(key, problem) for problem in introduced)}
    options = (
        sorted(named)
        or sorted({option for option in option_by_key.values() if option.startswith("--")})
        or sorted(set(option_by_key.values()))
    )
    raise ParamsError(
        f"{', '.join(options)}: {params.listed(introduced)}",
        f"correct the option; {path} keeps its values",
    )


def _is_about(key: str, problem: str) -> bool:
    """Tell whether a sentence names a key, or the section that only this key made."""
    return key in problem or f'"{key.partition(".")[0]}"' in problem


class _Representer(RoundTripRepresenter):
    """Writes None as `null`, as people do, not as nothing."""


_Representer.add_representer(type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"))


def _current_source() -> str:
    """Return the source in params.yaml, or nothing where there is none."""
    content = params.read_yaml(Path("params.yaml"))
    return str((content.get("ingest") or {}).get("source", "")) if isinstance(content, dict) else ""


def _project_path(source: str) -> str:
    """Return a source as params.yaml holds it: relative to the project where it lies inside, `~` expanded."""
    path, project = Path(source), Path.cwd().resolve()
    if path.is_absolute() and path.resolve().is_relative_to(project):
        return path.resolve().relative_to(project).as_posix()
    return str(path)


def _write_list(mapping: dict[Any, Any], name: str, items: list[Any]) -> None:
    """Set a list, written as `[a, b]`.

    Comments at a list in block style, one item a line, as `dvc exp run -S` writes them, move to it as if it had been read so:
    ruamel.yaml would write a text that is no YAML.
    """
    former, sequence = mapping.get(name), CommentedSeq(items)
    sequence.fa.set_flow_style()
    if isinstance(mapping, CommentedMap) and isinstance(former, CommentedSeq) and not former.fa.flow_style():
        comment = mapping.ca.items.pop(name, [None] * 4)[2]
        below = former.ca.items.get(len(former) - 1, [None])[0]
        if comment and below:
            comment.value = comment.value.rstrip("\n") + "\n" + below.value.partition("\n")[2]
        sequence.ca.comment = [comment or below, None]
    mapping[name] = sequence

"""Write a recipe's values into params.yaml, in place, comments kept, so that `git diff` shows what changed."""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path
from typing import Any

from darkroom.config import params
from darkroom.core import atomic
from darkroom.core.errors import ParamsError, nearest

RECIPES = Path("recipes")
_ASSIGNMENTS = re.compile(r"\s+(?=[\w.]+=)")  # several KEY=VALUE in one text, as make passes them


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom recipe", description=__doc__)
    parser.add_argument("name", nargs="?", help="the recipe; without one only the options below are applied")
    parser.add_argument("--list", action="store_true", help="list the recipes with what they claim")
    parser.add_argument("--data", metavar="DIR", help="your folder of images, one subfolder per class")
    parser.add_argument("--weights", metavar="SOURCE", help="imagenet, pretrain, random, or a folder of weight files")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="for example transfer.lr=0.01")
    given = parser.parse_args(arguments)
    if given.list:
        for path in sorted(RECIPES.glob("*.yaml")):
            print(f"{path.stem}\n{_header(path)}\n")
        return 0
    if not (given.name or given.data or given.weights or given.set):
        raise ParamsError("nothing to apply", "name a recipe (`darkroom recipe --list`), or give --data, --weights or --set")
    changed = apply(Path("params.yaml"), given.name, given.data, given.weights, given.set)
    for key, (before, after) in changed.items():
        print(f"{key}: {before} → {after}")
    print(f"params.yaml: {len(changed)} value{'s' if len(changed) != 1 else ''} changed" if changed else "params.yaml: as it was")
    return 0


def apply(path: Path, name: str | None, data: str | None, weights: str | None, settings: list[str]) -> dict[str, tuple[Any, Any]]:
    """Change a params file and return what changed, `{key: (before, after)}`; it is left alone where a value is wrong."""
    from ruamel.yaml import YAML

    params.read_yaml(path)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ParamsError(f"{path} is not a mapping of sections", f"restore it: `git checkout {path}`")
    wanted: dict[str, Any] = dict(_leaves(_recipe(name))) if name else {}
    if data is not None:
        wanted |= {"ingest.source": _source(data), "fetch.datasets": []}
    if weights is not None:
        wanted["weights.source"] = weights if weights in params.SOURCES else str(Path(weights).expanduser())
    wanted |= dict(params.assignment(item) for text in settings for item in _ASSIGNMENTS.split(text.strip()))
    if isinstance(wanted.get("ingest.source"), str):
        wanted["ingest.source"] = _source(wanted["ingest.source"])

    changed: dict[str, tuple[Any, Any]] = {}
    for key, value in wanted.items():
        section, _, inner = key.partition(".")
        place, last = (content, section) if not inner else (content.setdefault(section, {}), inner)
        if not isinstance(place, dict):
            raise ParamsError(f'unknown key "{key}"', "keys are section.key as in params.yaml, or backbones")
        before = place.get(last)
        if before != value or (type(before) is not type(value) and not isinstance(value, (list, float, int, str))):
            changed[key] = (_plain(before), value)
            place[last] = _flow(value) if isinstance(value, list) else value
    stream = io.StringIO()
    yaml.Representer = _representer()
    yaml.dump(content, stream)
    settled = params.parse(YAML(typ="safe", pure=True).load(stream.getvalue()), str(path))
    from darkroom.commands import check

    check.everything(settled)
    if changed:
        with atomic.new_file(path) as working:
            working.write_text(stream.getvalue(), encoding="utf-8")
    return changed


def _recipe(name: str) -> dict[str, Any]:
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        known = sorted(item.stem for item in RECIPES.glob("*.yaml"))
        raise ParamsError(
            f'there is no recipe "{name}"{nearest(name, known)}; there are {", ".join(known)}',
            "`darkroom recipe --list`",
        )
    content = params.read_yaml(path)
    if not isinstance(content, dict):
        raise ParamsError(f"{path} holds no values", f"restore it: `git checkout {path}`")
    return content


def _leaves(content: dict[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for section, value in content.items():
        inner = value.items() if isinstance(value, dict) else None
        found += [(section, value)] if inner is None else [(f"{section}.{key}", item) for key, item in inner]
    return found


def _source(data: str) -> str:
    """Return the path as params.yaml should hold it: relative where it lies in this folder, else as given."""
    path = Path(data).expanduser()
    if path.is_absolute() and path.resolve().is_relative_to(Path.cwd().resolve()):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return str(path)


def _representer() -> Any:
    """Return how values are written: nothing as `null`, as people write it, not as an empty place."""
    from ruamel.yaml.representer import RoundTripRepresenter

    class Written(RoundTripRepresenter):
        pass

    Written.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))
    return Written


def _flow(values: list[Any]) -> Any:
    from ruamel.yaml.comments import CommentedSeq

    made = CommentedSeq(values)
    made.fa.set_flow_style()
    return made


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _header(path: Path) -> str:
    """Return the comment that a recipe begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append("  " + line.lstrip("# ").rstrip())
    return "\n".join(lines)

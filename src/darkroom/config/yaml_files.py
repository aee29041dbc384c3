"""YAML 1.2, as people and DVC write it, as plain Python."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from darkroom.core import user_paths
from darkroom.core.errors import ParamsError

MAX_VALUES = 100_000  # of a file, as whoever follows its anchors counts them
VALUES = (ValueError, KeyError, TypeError, AttributeError)  # of a number of 5,000 digits, a 13th month, `!!bool x`


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file as plain Python. Raises ParamsError where it is missing, or no valid YAML."""
    user_paths.check_file(path)
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ParamsError(
            f"there is no {path} here ({Path.cwd()})", "run the command in the folder that holds params.yaml and dvc.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}", _restoring(str(path))) from None


def parse_yaml(text: str, name: str) -> Any:
    """Return YAML 1.2 as plain Python. Raises ParamsError, with the file's `name`, where it is not valid."""
    try:
        return deepcopy(_load(text))
    except (YAMLError, RecursionError, *VALUES) as error:
        raise ParamsError(f"{name} is not valid YAML: {error}", _restoring(name)) from None


@lru_cache(maxsize=16)
def _load(text: str) -> Any:
    """Return YAML as plain Python, to be copied: a command reads params.yaml several times, each takes 50 ms."""
    content = YAML(typ="safe", pure=True).load(text)
    _check_size(content)
    return content


def _check_size(content: Any) -> None:
    """Raise YAMLError where anchors (`&a`, `*a`) repeat values more than `MAX_VALUES` times, or without end.

    A few lines can stand for a list of 10¹⁰ values, which whoever copies or shows it would wait for.
    """
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = MAX_VALUES + 1  # of what holds itself
            sizes[id(value)] = 1 + sum(size(item) for item in (value.values() if isinstance(value, dict) else value))
        return sizes[id(value)]

    if size(content) > MAX_VALUES:
        raise YAMLError(f"its anchors stand for more than {MAX_VALUES:,} values")


def _restoring(name: str) -> str:
    return f"correct {name}, or restore it: `git checkout {name}`"


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return key and value of `KEY=VALUE`, the value read as YAML. Raises ParamsError where it does not have this form."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        example = "--set transfer.lr=0.01 backbones='[mobilenet_v2]'"
        raise ParamsError(f'"{text}" must have the form KEY=VALUE', f"write for example {example}")
    try:
        return key.strip(), deepcopy(_load(value))
    except (YAMLError, RecursionError, *VALUES) as error:
        raise ParamsError(f'"{value}" is not a YAML value for {key}', "quote it for the shell, lists as '[a, b]'") from error

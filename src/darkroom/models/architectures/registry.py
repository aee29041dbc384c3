"""The classic architectures by name, read from their source. Importing this costs no torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, TypeVar

from darkroom.core.errors import ParamsError, nearest

Function = TypeVar("Function", bound=Callable[..., Any])
CLASSIFIER, AUTOENCODER = "classifier", "autoencoder"


class Entry(NamedTuple):
    """An architecture as its source describes it, without importing its code."""

    name: str
    family: str  # the module in this package
    function: str  # in that module
    arguments: tuple[Any, ...]  # of the function, after the size and the channels
    summary: str
    options: dict[str, Any]  # and their defaults
    paper: str
    size: int  # pixels a side of the images that it is made for
    channels: int
    classes: int
    kind: str


def architecture(
    paper: str,
    *,
    size: int = 224,
    channels: int = 3,
    classes: int = 1000,
    kind: str = CLASSIFIER,
    variants: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function under its own name, or under those of `variants`: (size, channels, *, options) to
    `features.Parts`.

    `paper`, the native images (by default ImageNet's) and the variants are read from the source, so they are
    literals or constants of the module. Keyword arguments of the function are the options of the
    architecture, with literal defaults. A variant is its summary, the function's arguments after `channels`,
    and, where they differ, its native images and defaults.
    """
    return lambda function: function


@cache
def entries() -> dict[str, Entry]:
    """Return every architecture by name, in the order of the families' files."""
    result: dict[str, Entry] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        constants: dict[str, ast.expr] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                constants[node.targets[0].id] = node.value
            elif isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "architecture":
                        result |= {entry.name: entry for entry in _entries(path.stem, node, mark, constants)}
    return result


def _entries(family: str, function: ast.FunctionDef, mark: ast.Call, constants: Mapping[str, ast.expr]) -> Iterator[Entry]:
    def value(node: ast.expr) -> Any:
        return ast.literal_eval(constants[node.id] if isinstance(node, ast.Name) else node)

    keywords = {item.arg: default for item, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)}
    options = {name: value(default) for name, default in keywords.items() if default is not None}
    native: dict[str, Any] = {"size": 224, "channels": 3, "classes": 1000, "kind": CLASSIFIER}
    native |= {str(keyword.arg): value(keyword.value) for keyword in mark.keywords}
    summary = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
    for name, (text, arguments, *differing) in native.pop("variants", {function.name: (summary, ())}).items():
        own = differing[0] if differing else {}
        changed = [values | {key: own[key] for key in values.keys() & own.keys()} for values in (options, native)]
        yield Entry(name, family, function.name, arguments, text, changed[0], value(mark.args[0]), **changed[1])


def names(kind: str = CLASSIFIER) -> tuple[str, ...]:
    """Return the names of the classifiers, or of the autoencoders."""
    return tuple(name for name, entry in entries().items() if entry.kind == kind)


def entry(name: str, kind: str = CLASSIFIER) -> Entry:
    """Return an architecture by name; ParamsError with the nearest one where there is none of this kind."""
    match = entries().get(name)
    if match is None or match.kind != kind:
        raise ParamsError(
            f'there is no {kind} "{name}"{nearest(name, names(kind))}', "`darkroom models describe --list` shows the names"
        )
    return match


def make(name: str, size: int, channels: int, options: Mapping[str, Any], kind: str = CLASSIFIER) -> Any:
    """Call the function of an architecture.

    Raises ParamsError that lists the options for an unknown option, a value of the wrong type, or a network
    that cannot be built.
    """
    architecture = entry(name, kind)
    remedy = "its options are: " + (", ".join(f"{key}={value!r}" for key, value in architecture.options.items()) or "none")
    for option, value in options.items():
        if option not in architecture.options:
            raise ParamsError(f'{name} has no option "{option}"{nearest(option, architecture.options)}', remedy)
        if not _has_type(value, architecture.options[option]):
            raise ParamsError(f"{name} cannot take {option}={value!r}", remedy)
    if channels not in (1, 3):
        raise ParamsError(f"{name} takes images of 1 or 3 channels, not of {channels}", "set channels to 1 or 3")
    function = resolve_name(f"darkroom.models.architectures.{architecture.family}:{architecture.function}")
    try:
        return function(size, channels, *architecture.arguments, **{**architecture.options, **options})
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise ParamsError(f"{name} cannot be built for images of {size} pixels with {dict(options)}: {error}", remedy) from error


def _has_type(value: Any, default: Any) -> bool:
    """Tell whether an option's value has the type of its default; integers count as floats, lists as tuples."""
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(_has_type(item, default[0]) for item in value)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))

"""JSON files that are read across a boundary: validated, so that damage is one sentence with a remedy.

A file that describes weights is sealed: its key `checksum` has the sha256 of the rest of its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from darkroom.core import atomic, checksums, strict_json, user_paths
from darkroom.core.errors import HALF_CHARACTER, WorkspaceError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import pydantic

SHOWN = 200  # characters of a mistake
T = TypeVar("T")
Remedy = str | Callable[[], str]  # a function where the remedy has to be looked up


def read(path: Path, kind: type[T], remedy: Remedy) -> T:
    """Return the content of a file as a pydantic model, a dataclass or another type.

    Raises FileNotFoundError, or WorkspaceError where the file holds no JSON or something else than this type.
    """
    return validate(load(path, remedy), kind, path, remedy)


def load(path: Path, remedy: Remedy) -> Any:
    """Return the content of a file. Raises FileNotFoundError, WorkspaceError where it holds no JSON, ParamsError for a pipe."""
    user_paths.check_file(path)
    try:
        return strict_json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), remedy) from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def validate(content: Any, kind: type[T], path: Path, remedy: Remedy) -> T:
    """Return content as a type; raise WorkspaceError, which names the field, where it is something else."""
    try:
        return adapter(kind).validate_python(content)  # type: ignore[arg-type,no-any-return]
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{field}: {first['msg']}" if field else first["msg"], remedy) from error
    except UnicodeEncodeError as error:
        raise damaged(path, HALF_CHARACTER, remedy) from error


@cache
def adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """Return what validates values of a type: to make it takes a thousand times as long as to use it."""
    return pydantic.TypeAdapter(kind)


def damaged(path: Path, problem: str, remedy: Remedy) -> WorkspaceError:
    """Return the error about a file."""
    text = printable(" ".join(problem.split()))
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return WorkspaceError(f"{path} is damaged: {text}", remedy if isinstance(remedy, str) else remedy())


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file with its checksum; equal contents give equal bytes."""
    plain = strict_json.loads(strict_json.dumps(content))
    atomic.write_json(path, plain | {checksums.KEY: checksums.of_content(plain)})


def load_sealed(
    path: Path, remedy: Remedy, is_unsealed: Callable[[dict[str, Any]], bool] = lambda content: False
) -> dict[str, Any]:  # fmt: skip
    """Return the content of a file that `write_sealed` wrote, without its checksum.

    `is_unsealed` tells contents of earlier versions, which have none. Raises FileNotFoundError, or WorkspaceError where
    the file is damaged.
    """
    content = load(path, remedy)
    if not isinstance(content, dict):
        raise damaged(path, "it holds no object", remedy)
    expected = content.pop(checksums.KEY, None)
    if expected is None and not is_unsealed(content):
        raise damaged(path, "it has no checksum", remedy)
    if expected is not None and expected != checksums.of_content(content):
        raise damaged(path, "its content and its checksum differ", remedy)
    return content

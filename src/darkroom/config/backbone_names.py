"""Which names `backbones` in params.yaml may have: DVC fills them into commands, which a shell runs, and into paths."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from darkroom.core.errors import ParamsError

# NAME, LIBRARY/NAME with an optional tag, hf/NAME, hf/OWNER/NAME or own/FILE.CLASS: safe in a shell and as a path, never with `..`
# or a leading -
_HUB_PART = "[A-Za-z0-9_][A-Za-z0-9_-]*(?:[.][A-Za-z0-9_-]+)*"
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_FORMS = (
    "[a-z0-9_]+", "[a-z][a-z0-9_]*/[a-z0-9_]+(?:[.][a-z0-9_]+)?", f"hf/{_HUB_PART}(?:/{_HUB_PART})?",
    f"own/{_IDENTIFIER}[.]{_IDENTIFIER}",
)  # fmt: skip


def _no_path(name: Any) -> Any:
    """Refuse the path of a Python file with the name that its network has."""
    path, _, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if path.endswith(".py"):
        file = path.rpartition("/")[2]
        raise ValueError(f"place {file} in the folder backbones, and write own/{file.removesuffix('.py')}.{attribute or 'CLASS'}")
    return name


BackboneName = Annotated[str, Field(pattern=f"^(?:{'|'.join(_FORMS)})$"), BeforeValidator(_no_path)]


def check(name: str) -> None:
    """Raise ParamsError for a name that `backbones` could not have: it becomes a path and a part of commands."""
    try:
        TypeAdapter(BackboneName).validate_python(name)
    except ValidationError as error:
        forms = "write mobilenet_v2, timm/NAME, timm/NAME.TAG, hf/NAME, hf/OWNER/NAME or own/FILE.CLASS"
        own = [item["msg"].removeprefix("Value error, ") for item in error.errors() if item["type"] == "value_error"]
        raise ParamsError(f'"{name}" cannot be the name of a backbone', own[0] if own else forms) from None

"""The Python files in which a project has networks of its own, read without running them. Importing this costs no torch.

`own/FILE.NAME` is the class NAME, or the function NAME that returns a module, of `backbones/FILE.py`. A network is known by the
sha256 of its file, which checkpoints keep. Code runs only if it is the project's: the file of today, an earlier one that a
commit of this branch has, or one that the stage `names` has kept. A checkpoint brings a digest and no code.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom.config.params import KEPT_CODE, OWN_CODE
from darkroom.core import atomic, git, user_paths
from darkroom.core.errors import OwnCodeError, nearest

FOLDER, KEPT = OWN_CODE, KEPT_CODE
SOURCE, DIGEST = "own", "sha256"
PREFIX = f"{SOURCE}/"
HOW_TO_ADD = f"place it in {FOLDER}/FILE.py, and write {PREFIX}FILE.CLASS"
_NAME = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True)
class Code:
    """A file's content, and the path that messages name."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def is_named(name: str) -> bool:
    """Tell whether a backbone is named as one of the project's own."""
    return name.startswith(PREFIX)


def names() -> list[str]:
    """Return FILE.NAME of the public classes with a base, and of the functions that need no argument, in all files."""
    result = []
    for path in sorted(FOLDER.glob("*.py")):
        try:
            definitions = _definitions(Code(path, path.read_bytes()))
        except (OSError, OwnCodeError):
            continue
        result += [
            f"{path.stem}.{name}" for name, node in definitions.items() if not name.startswith("_") and _may_be_network(node)
        ]
    return result


def knows(name: str) -> bool:
    """Return True where FILE.NAME is there; raises OwnCodeError with a remedy where the file or the name is missing."""
    file, attribute = split(name)
    code = read(file)
    defined = _definitions(code)
    if attribute not in defined:
        raise OwnCodeError(
            f"{code.path} defines no {attribute}{nearest(attribute, defined)}",
            f"name a class or a function of it: {', '.join(f'{PREFIX}{file}.{other}' for other in defined) or 'it has none'}",
        )
    return True


def split(name: str) -> tuple[str, str]:
    """Return the file, without `.py`, and the class or function of FILE.NAME; raises OwnCodeError for what may be no file."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise OwnCodeError(f'"{name:.80}" names no network of the project\'s own', HOW_TO_ADD)
    return match[1], match[2]


def read(file: str) -> Code:
    """Return the file of today. Raises OwnCodeError where it is missing or cannot be read."""
    path = FOLDER / f"{file}.py"
    if not path.exists():
        present = [other.stem for other in sorted(FOLDER.glob("*.py"))]
        there = ", ".join(f"{name}.py" for name in present) or "no Python file"
        raise OwnCodeError(
            f"there is no {path}{nearest(file, present)}: {FOLDER} has {there}",
            f"place the file there; {PREFIX}{file}.CLASS is a class of {path}, in the folder of the project",
        )
    user_paths.check_file(path)
    try:
        return Code(path, path.read_bytes())
    except OSError as error:
        raise OwnCodeError(f"{path} cannot be read: {(error.strerror or '').lower()}", f"`chmod u+r {path}`") from error


def options(name: str) -> Mapping[str, str]:
    """Return what a checkpoint keeps of FILE.NAME: the sha256 of its file."""
    return {DIGEST: read(split(name)[0]).sha256}


def find(name: str, sha256: object) -> Code:
    """Return the code of FILE.NAME with this sha256, of the project alone. Raises OwnCodeError where the project has none."""
    file, attribute = split(name)
    path, kept = FOLDER / f"{file}.py", KEPT / f"{sha256}.py"
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise OwnCodeError(f"{PREFIX}{name} has no sha256 of its code", "use the checkpoint as Darkroom wrote it")
    contents = [place.read_bytes() for place in (path, kept) if place.is_file()]
    code = next((code for code in (Code(path, content) for content in contents) if code.sha256 == sha256), None)
    if code is None:
        code = next((code for code in (Code(path, content) for content in git.versions(str(path))) if code.sha256 == sha256), None)
    if code is None:
        here = "the file here is another version" if path.is_file() else f"this folder, {Path.cwd()}, has no such file"
        raise OwnCodeError(
            f"it needs {attribute} of {path} with the sha256 {sha256[:12]}…, and {here}; code that comes with a model is not run",
            f"run this in the project that trained it; or where you trust its author, place that version as {path}; or train a "
            "model of this project again: `dvc repro`",
        )
    return code


def keep(code: Code) -> None:
    """Keep a file, so that what is trained with it can be loaded after the file has changed."""
    kept = KEPT / f"{code.sha256}.py"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(kept) as working:
            working.write_bytes(code.content)


def _definitions(code: Code) -> dict[str, ast.stmt]:
    """Return the classes, functions and other names that a file defines at its top level."""
    try:
        body = ast.parse(code.content, str(code.path)).body
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 1
        raise OwnCodeError(
            f"{code.path}, line {line}: {getattr(error, 'msg', error)}", f"correct the file: `python {code.path}` shows the place"
        ) from error
    definitions: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.ImportFrom, ast.Import)):
            aliases = [alias.asname or alias.name for alias in node.names] if not isinstance(node, ast.Assign) else []
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
            definitions |= dict.fromkeys([*aliases, *targets], node)
    return definitions


def _may_be_network(node: ast.stmt) -> bool:
    """Tell whether a definition may be a network: a class with a base, or a function that needs no argument."""
    if isinstance(node, ast.FunctionDef):
        return len(node.args.args) <= len(node.args.defaults)
    return isinstance(node, ast.ClassDef) and bool(node.bases)

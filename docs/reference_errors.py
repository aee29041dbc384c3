"""The page of the errors: every message with its remedy, read from the places that raise it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from darkroom.core import errors, os_errors, shortage
from docs.reference_markdown import page, plain, table

SOURCES = ("src/darkroom", "pipelines")
ROOT_ERROR = "DarkroomError"
USAGE = "UsageError"  # click's, for options and arguments
ELLIPSIS = "…"
EXIT_CODES = [
    ("0", "done"),
    ("1", "some failed: images, checks, records; the output names them"),
    (str(errors.MISTAKE), "a mistake in params, data or options, with its remedy; nothing is lost"),
    (str(errors.DRIFTED), "`darkroom monitor` has found drift"),
    (str(errors.EX_TEMPFAIL), "a temporary failure of the network, a server, the disk or memory: retry later"),
    ("130", "interrupted"),
]


class Message(NamedTuple):
    """A message with its remedy and exit code, as one place of the code raises it; names in capitals stand for values."""

    problem: str
    remedy: str
    code: str


def render(root: Path) -> str:
    """Return the page."""
    parts = [
        "A mistake is one sentence with its remedy, without a traceback (`--debug` shows it). Words in capitals stand for a value,",
        "`…` for a text that depends on the case. [Troubleshooting](../troubleshooting.md) explains those that people meet most.",
        "",
        *table(("exit code", "meaning"), EXIT_CODES),
    ]
    for room, messages in sorted(by_room(root).items()):
        cells = [(plain(item.problem), plain(item.remedy), item.code) for item in messages]
        parts += ["", f"## {room}", "", *table(("message", "remedy", "exit code"), cells)]
    texts = [f"- {plain(text)}" for text in rules(root / "src/darkroom/config/study_params.py")]
    parts += ["", "## Rules of studies/params.yaml", "", *texts, "", "## Errors of the operating system", ""]
    parts += ["The system's own message, with one of these remedies, exit code 2:", ""]
    parts += [f"- {plain(text)}" for text in dict.fromkeys(os_errors.REMEDIES.values())]
    parts += ["", "A full disk and too little memory have exit code 75:", ""]
    parts += [f"- {plain(text)}" for text in (shortage.FREE_DISK, shortage.FREE_MEMORY)]
    return page("Errors", parts)


def by_room(root: Path) -> dict[str, list[Message]]:
    """Return the messages of each room, in the order of modules and lines."""
    files = [path for source in SOURCES for path in sorted((root / source).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    kinds, constants = _error_classes(trees.values()), _constants(trees.values())
    messages_of: dict[str, list[Message]] = {}
    for path, tree in trees.items():
        parts = path.relative_to(root).parts
        room = parts[2] if len(parts) > 3 else "pipelines" if parts[0] == "pipelines" else "command line"
        for message in _messages(tree, kinds, constants):
            if message not in messages_of.setdefault(room, []):
                messages_of[room].append(message)
    return {room: messages for room, messages in messages_of.items() if messages}


def rules(path: Path) -> list[str]:
    """Return the sentences of the ValueErrors that the validators of a module raise."""
    problems = []
    for kind in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(kind, ast.FunctionDef) and kind.name.startswith("_"):
            reader = _Reader({}, kind)
            for node in ast.walk(kind):
                if isinstance(node, ast.Call) and _name(node.func) == "ValueError":
                    problems.append(reader.text(node.args[0]))
    return problems


def _error_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names of DarkroomError and all classes below it."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names = {ROOT_ERROR}
    while more := {node.name for node in classes if names & {_name(base) for base in node.bases}} - names:
        names |= more
    return names


def _constants(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Return the texts that modules have as constants, by name; a name with several texts is left out."""
    texts_of: dict[str, set[str]] = {}
    for tree in trees:
        for name, value in _assignments(tree):
            texts_of.setdefault(name, set()).add(_Reader({}, None).text(value))
    return {name: texts.pop() for name, texts in texts_of.items() if len(texts) == 1 and texts != {ELLIPSIS}}


def _assignments(tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Return the names that a module or a function gives values, with the values."""
    nodes = tree.body if isinstance(tree, ast.Module) else list(ast.walk(tree))
    return [
        (node.targets[0].id, node.value) for node in nodes if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]


def _messages(tree: ast.Module, kinds: set[str], constants: dict[str, str]) -> Iterator[Message]:
    """Yield the messages of a module; those that only hand on the text of another error are left out."""
    own = {name for name, _ in _assignments(tree)}
    constants = {name: text for name, text in constants.items() if name not in own} | _constants([tree])
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _name(node.func) not in {*kinds, USAGE} or not node.args:
            continue
        around = [item for item in functions if item.lineno <= node.lineno <= (item.end_lineno or 0)]
        reader = _Reader(constants, max(around, key=lambda item: item.lineno, default=None))
        problem = reader.text(node.args[0])
        if _name(node.func) == USAGE:
            remedy = "see `--help` of the command"
        elif len(node.args) > 1:
            remedy = reader.text(node.args[1])
        else:
            continue
        if re.search(r"[a-z]{3}", problem):
            yield Message(problem, ELLIPSIS if remedy.isupper() else remedy, _exit_code(node))


def _exit_code(call: ast.Call) -> str:
    """Return the exit code of an error, or both where it depends on the cause."""
    retryable = [keyword.value for keyword in call.keywords if keyword.arg == "retryable"] + call.args[2:3]
    if not retryable or _name(call.func) == USAGE:
        return str(errors.MISTAKE)
    is_certain = isinstance(retryable[0], ast.Constant)
    return str(errors.EX_TEMPFAIL) if is_certain else f"{errors.MISTAKE} or {errors.EX_TEMPFAIL}"


class _Reader:
    """Turns an expression into the text that it makes; a value is its name in capitals, or `…`."""

    def __init__(self, constants: dict[str, str], function: ast.AST | None) -> None:
        self.constants = constants
        assigned = _assignments(function) if function else []
        names = [name for name, _ in assigned]
        self.local = {name: value for name, value in assigned if names.count(name) == 1}

    def text(self, node: ast.expr) -> str:
        """Return the text of an expression, in one line."""
        return " ".join(self._text(node).split())

    @staticmethod
    def _joined(parts: list[str]) -> str:
        """Return the parts as one text; a value that touches a word, such as an optional clause, is `…`."""
        text = ""
        for index, part in enumerate(parts):
            after = parts[index + 1] if index + 1 < len(parts) else ""
            touches = part.isupper() and (text[-1:].isalnum() or after[:1].isalnum())
            text += ELLIPSIS if touches else part
        return text

    def _text(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return self._joined([self._text(part.value if isinstance(part, ast.FormattedValue) else part) for part in node.values])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            is_number = isinstance(node.right, ast.Constant) and not isinstance(node.right.value, str)
            return self._text(node.left) + ("" if is_number else self._text(node.right))
        if isinstance(node, ast.Call) and _name(node.func) == "Path" and len(node.args) == 1:
            return self._text(node.args[0])
        if isinstance(node, ast.IfExp):
            texts = [text for text in map(self._text, (node.body, node.orelse)) if text]
            return texts[0] if len(texts) == 1 and ELLIPSIS in texts[0] else ELLIPSIS
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            return re.sub(r"\{(\w*)[^}]*\}", lambda match: match[1].upper() or ELLIPSIS, self._text(node.func.value))
        if isinstance(node, ast.Name) and node.id in self.local:
            value = self.local.pop(node.id)  # once, so that what is made of itself ends
            text = self._text(value) if isinstance(value, (ast.Constant, ast.JoinedStr, ast.BinOp)) else node.id.upper()
            self.local[node.id] = value
            return text
        name = _name(node)
        return self.constants.get(name, name.strip("_").upper().replace("_", " ") or ELLIPSIS)


def _name(node: ast.expr) -> str:
    """Return the last part of a dotted name; empty for other expressions."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_true(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Constant) and not node.value)

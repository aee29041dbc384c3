"""The lessons of the course, read from the pages of docs/case-studies, which are their only source.

The table in README.md has the order, and the question and the command of each lesson. A page has, in this order,

- `# Title`;
- a paragraph that begins with `**What you should learn.**`;
- a drawing in docs/images/blocks, which `docs/pictures.py blocks` makes from the code that it shows;
- a paragraph that begins with `**Predict before you run.**`, with a numbered list of questions. A question may end in
  `<!-- summary: STUDY | COMPARISON | LABEL | FIELD -->`, which names the number of the student's own run that answers it
  (`course/measurements.py` has all forms);
- `**The command.**` and fenced blocks of commands, or of Python, and a picture;
- `**Findings`, with intervals;
- `<details><summary>Answers</summary>`, with a numbered list of as many answers;
- `**Why`, a cause that a measurement or an ablation isolates, `**Limits.**`, `**Next.**` and `**The code.**`.

Parts may repeat. This module takes a page that lacks any of them but the title; tests/course/test_page_sections.py holds
the pages of the project to all of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from darkroom.config import package_files
from darkroom.core.errors import ParamsError, WorkspaceError, nearest
from darkroom.course import measurements
from darkroom.course.measurements import Measurement

PAGES = Path("docs/case-studies")
RESTORE = f"restore it: `git checkout {PAGES}`"

_GOAL, _PREDICT = "**What you should learn.**", "**Predict before you run.**"
_CODE = ("**The code.**", "**Code.**")
_ANSWERS = re.compile(r"<details>\s*<summary>Answers?</summary>")
_ROW = re.compile(r"^\|\s*(\d+)\s*\|\s*\[[^]]*\]\(([\w-]+)\.md\)\s*\|\s*(.*?)\s*\|\s*`?(.*?)`?\s*\|", re.MULTILINE)
_ITEM = re.compile(r"^\d+\. +", re.MULTILINE)


class Kind(Enum):
    """What a part of a page is."""

    TEXT = "text"
    COMMANDS = "commands"
    PYTHON = "python"  # a fenced block of Python
    QUESTIONS = "questions"
    ANSWERS = "answers"
    CODE = "code"  # the paragraph that names the modules


@dataclass(frozen=True)
class Part:
    """A paragraph, a fenced block or a folded block of a page, as it stands there."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Question:
    """A question, the answer of the page (empty where it has none), and the numbers that answer it."""

    text: str
    answer: str = ""
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Command:
    """A line of a block of commands; `comment` is the text after its #."""

    text: str
    comment: str = ""

    @cached_property
    def words(self) -> list[str]:
        """Return the words as a shell has them."""
        try:
            return shlex.split(self.text)
        except ValueError:  # a quote without its end
            return self.text.split()

    @property
    def target(self) -> tuple[str, str]:
        """Return (`study`, its name) or (`lab`, its command); two empty texts for any other command."""
        program, kind, name = [*self.words, "", "", ""][:3]
        return (kind, name) if program == "darkroom" and kind in ("study", "lab") else ("", "")


@dataclass(frozen=True)
class Lesson:
    """A page of the course; `command` is the one that the table of lessons has for it."""

    number: int
    name: str
    title: str
    question: str
    goal: str
    questions: tuple[Question, ...]
    commands: tuple[Command, ...]
    parts: tuple[Part, ...]
    command: Command

    @property
    def page(self) -> Path:
        return _pages() / f"{self.name}.md"

    @property
    def notebook(self) -> Path:
        return _pages() / "notebooks" / f"{self.number:02}-{self.name}.ipynb"


def names() -> list[str]:
    """Return the names of the lessons, in their order. Raises WorkspaceError where the pages are missing."""
    return [name for _, name, _, _ in _table()]


def read_all() -> list[Lesson]:
    """Return the lessons, in their order. Raises WorkspaceError where a page is missing or is no lesson."""
    return [_lesson(*row) for row in _table()]


def read(lesson: str) -> Lesson:
    """Return a lesson by its number or name. Raises ParamsError, with the nearest name, if there is no such lesson."""
    table = _table()
    for number, name, question, command in table:
        if lesson in (name, str(number)):
            return _lesson(number, name, question, command)
    known = [name for _, name, _, _ in table]
    raise ParamsError(f'there is no lesson "{lesson}"{nearest(lesson, known)}', f"choose a number, or from {', '.join(known)}")


def _lesson(number: int, name: str, question: str, command: str) -> Lesson:
    return parse(number, name, question, _read(_pages() / f"{name}.md"), command)


def _pages() -> Path:
    """Return the folder of the pages: of this folder, or of Darkroom."""
    return package_files.find(PAGES)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WorkspaceError(f"there is no {path}, a page of the course", RESTORE) from error
    except UnicodeDecodeError as error:
        raise WorkspaceError(f"{path} is damaged: it is not UTF-8", RESTORE) from error


def _table() -> list[tuple[int, str, str, str]]:
    """Return number, name, question and command of each lesson."""
    index = _pages() / "README.md"
    rows = [(int(number), *others) for number, *others in _ROW.findall(_read(index))]
    if not rows:
        raise WorkspaceError(f"{index} has no table of lessons", RESTORE)
    return rows


def parse(number: int, name: str, question: str, text: str, command: str = "") -> Lesson:
    """Return the lesson that a page is. Raises WorkspaceError for a page without a title, or with a wrong comment."""
    title, parts = re.search(r"^# (.+)", text, re.MULTILINE), tuple(_split(text))
    if title is None:
        raise WorkspaceError(f"{PAGES / name}.md has no title", RESTORE)
    questions, answers = (
        [item for part in parts if part.kind is kind for item in numbered(part.text)] for kind in (Kind.QUESTIONS, Kind.ANSWERS)
    )
    answers += [""] * len(questions)
    return Lesson(
        number, name, title[1].strip(), question,
        next((part.text.removeprefix(_GOAL).strip() for part in parts if part.text.startswith(_GOAL)), ""),
        tuple(_question(name, *pair) for pair in zip(questions, answers, strict=False)),
        tuple(line for part in parts if part.kind is Kind.COMMANDS for line in commands(part.text) if line.text), parts,
        _command(command),
    )  # fmt: skip


def numbered(text: str) -> list[str]:
    """Return the items of a numbered list, each in one line."""
    return [" ".join(item.removesuffix("</details>").split()) for item in _ITEM.split(text.rstrip())[1:]]


def commands(block: str) -> list[Command]:
    r"""Return the lines of a fenced block, comments alone included; lines that end in \ are joined."""
    lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()[1:-1]
    return [_command(line.strip()) for line in lines if line.strip()]


def _command(line: str) -> Command:
    for mark in re.finditer(r"(?:^|\s+)#", line):
        try:
            shlex.split(line[: mark.start()])
        except ValueError:  # a # in quotes
            continue
        return Command(line[: mark.start()], line[mark.end() :].strip())
    return Command(line)


def _question(lesson: str, text: str, answer: str) -> Question:
    try:
        return Question(measurements.without_comments(text), answer, tuple(measurements.read_all(text)))
    except ValueError as error:
        comment, form = error.args
        expected = f"<!-- {form} -->, with a field of {', '.join(measurements.FIELDS)}"
        raise WorkspaceError(f"{PAGES / lesson}.md has the comment <!--{comment}-->", f"write {expected}; or {RESTORE}") from error


def _split(text: str) -> Iterator[Part]:
    """Yield the parts of a page; a list of questions that a blank line parts is one of them."""
    questions = ""
    for chunk in _chunks(text):
        if questions and re.match(r"\d+\. |\s", chunk):
            questions += f"\n\n{chunk}"
            continue
        if questions:
            yield Part(Kind.QUESTIONS, questions)
            questions = ""
        if chunk.startswith(_PREDICT):
            questions = chunk
        else:
            yield Part(_kind(chunk), chunk)
    if questions:
        yield Part(Kind.QUESTIONS, questions)


def _kind(chunk: str) -> Kind:
    if chunk.startswith("```python"):
        return Kind.PYTHON
    if chunk.startswith("```"):
        return Kind.COMMANDS if re.search(r"\A.*\n(?:\s*#.*\n|\s*\n)*\s*darkroom ", chunk) else Kind.TEXT
    if _ANSWERS.match(chunk):
        return Kind.ANSWERS
    return Kind.CODE if chunk.startswith(_CODE) else Kind.TEXT


def _chunks(text: str) -> Iterator[str]:
    """Yield what blank lines part; a fenced or folded block is whole, and stands alone."""
    chunk: list[str] = []
    end = ""  # the line that ends the block
    for line in text.splitlines():
        starts = not end and line.startswith(("```", "<details>"))
        if chunk and (starts or not (end or line.strip())):
            yield "\n".join(chunk)
            chunk = []
        if chunk or line.strip():
            chunk.append(line.rstrip())
        if starts:
            end = "```" if line.startswith("```") else "</details>"
        elif end and line.strip().endswith(end):
            end = ""
            yield "\n".join(chunk)
            chunk = []
    if chunk:
        yield "\n".join(chunk)

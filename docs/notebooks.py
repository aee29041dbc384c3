"""Make a notebook of each lesson and of docs/python.md, from its page: `.venv/bin/python docs/notebooks.py`.

Lessons are written to docs/case-studies/notebooks; a test holds all to their pages. A notebook has the text of its page, the
commands as cells, and after a study or a command of the lab what it has written.

A notebook runs from its first cell to its last in a project of the digits, and leaves that project to the next notebook as it
was. So these commands are comments, which say why: what needs a file of the reader's, takes hours, or replaces the results of a
command before it; and a recipe, which changes params.yaml, with what follows it on the page. Those lines name a project of
their own, in which they run as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.commands import study
from darkroom.commands.lab.options import FOLDER as PICTURES
from darkroom.course import lessons
from darkroom.course.lessons import Command, Kind, Lesson, Part

SOURCE = Path("src/darkroom")
PYTHON = Path("docs/python.md")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SETUP = """\
# Run this cell first. It finds the project and changes into its folder. Opened elsewhere, as in Colab, it clones and installs it,
# once: a second time it does nothing of this. A study downloads its images once, too.
import os
import shutil
import subprocess
import sys
from pathlib import Path

from IPython.display import Code, Image, display

REPOSITORY = ""  # the address of the project's git repository, where this notebook is opened outside of the project
HOSTED = not {"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}.isdisjoint(os.environ)  # a machine without an environment of its own


def find_project():
    folders = (Path.cwd(), *Path.cwd().parents, Path.cwd() / "darkroom")
    return next((folder for folder in folders if (folder / "dvc.yaml").is_file() and (folder / "src/darkroom").is_dir()), None)


project = find_project()
is_cloned = project is None
if is_cloned:
    if not REPOSITORY:
        raise SystemExit("this is not the project's folder: write the address of its repository into REPOSITORY")
    subprocess.run(["git", "clone", REPOSITORY, "darkroom"], check=True)
    project = find_project()
os.chdir(project)
programs = [str(folder) for folder in (project / ".venv/bin", Path(sys.executable).parent)]
os.environ["PATH"] = os.pathsep.join(dict.fromkeys([*programs, *os.environ["PATH"].split(os.pathsep)]))
if shutil.which("darkroom") is None and (is_cloned or HOSTED):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", "."], check=True)
if shutil.which("darkroom") is None:
    raise SystemExit(f"the project is not installed: run `make install` in {project}")
print(f"{shutil.which('darkroom')} in {project}")"""
PIPELINE = """\
# What the pipeline makes of the digits, and some cells look into: about three minutes on two cores, unless it is there.
needed = {paths}
if not all(Path(path).exists() for path in needed):
    !darkroom repro
if missing := [path for path in needed if not Path(path).exists()]:
    raise SystemExit(f"{{missing[0]}} is missing: see above, or params.yaml is not about the digits (`git diff params.yaml`)")"""
RESULTS = """\
import pandas

results = pandas.read_csv("{folder}/results.csv")
display(
    results.groupby(["comparison", "label"], sort=False, dropna=False).agg(
        seeds=("seed", "count"),
        accuracy=("accuracy", "mean"),
        deviation=("accuracy", "std"),
        train_accuracy=("train_accuracy", "mean"),
        parameters=("parameters", "first"),
        multiply_adds=("multiply_adds", "first"),
    )
)
Image("{folder}/{name}.png")"""
OWN_FILES, HOURS = "# With files of your own:", "# Takes hours:"
REPLACES = "# Replaces the results of the run above, which its command brings back from the cache:"
OWN_PROJECT = "# A recipe changes params.yaml, which other notebooks need as it is. In a project of its own, beside this one:"
OUTPUTS = ("data/raw/digits/", "data/ingested/", "models/")  # of the pipeline, in a project of the digits
RECIPE, MODELS = ["darkroom", "recipe"], ["darkroom", "models"]  # the beginnings of commands
RESULT = "reports/metrics.json"  # that docs/python.md begins with

_LINK = re.compile(r"""(\]\(|src=")(?!\w+:|/)([^)\s"]+)""")
_COMMENT = re.compile(r"\s*<!--.*?-->", re.DOTALL)
_FILE = re.compile(r"[~/].*|.*/|[A-Z]{3,}(\.\w+)?|.*\.(jpe?g|png|gif|webp|heic|npz|csv|zip|tar(\.gz)?|safetensors|pth)")
_MODULE = re.compile(r"`([\w/]+\.py)`")


@dataclass
class Run:
    """What the cells of a notebook so far have run: studies, and the recipe that has a project of its own.

    `needed` are the outputs of the pipeline that no cell has asked for yet.
    """

    needed: list[str]
    studies: set[str] = field(default_factory=set)
    recipe: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: markdown or code."""

    kind: str
    source: str


def main() -> int:
    made = notebooks()
    folder = lessons.PAGES / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in set(folder.glob("*.ipynb")) - set(made):
        path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def notebooks() -> dict[Path, str]:
    """Return the text of each notebook, by its path."""
    made = {lesson.notebook: to_json(cells(lesson)) for lesson in lessons.read_all()}
    return made | {PYTHON.with_suffix(".ipynb"): to_json(python_cells(PYTHON.read_text(encoding="utf-8")))}


def to_json(content: Iterable[Cell]) -> str:
    """Return a notebook of nbformat 4.5; the id of a cell depends on its content, and on equal cells before it."""
    written: list[dict[str, Any]] = []
    seen: Counter[Cell] = Counter()
    for cell in content:
        seen[cell] += 1
        key = hashlib.sha256(f"{cell.kind}\n{seen[cell]}\n{cell.source}".encode()).hexdigest()[:8]
        own = {"execution_count": None, "outputs": []} if cell.kind == "code" else {}
        written.append({"cell_type": cell.kind, "id": key, "metadata": {}, "source": cell.source.splitlines(True), **own})
    notebook = {"cells": written, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def cells(lesson: Lesson) -> Iterator[Cell]:
    """Yield the cells of a lesson: its title, the cell that finds the project, and the parts of the page."""
    text: list[str] = []
    has_setup = False
    run = Run(list(dict.fromkeys(path for command in lesson.commands for path in _outputs(command))))
    for part in lesson.parts:
        is_new = part.kind is not Kind.TEXT or part.text.startswith("#") or not has_setup
        if text and is_new:
            yield Cell("markdown", "\n\n".join(text))
            text = []
            if not has_setup:
                yield Cell("code", SETUP)
                has_setup = True
        if part.kind is Kind.TEXT:
            text.append(_markdown(part.text, lesson))
        else:
            yield from _cells_of(part, lesson, run)
    if text:
        yield Cell("markdown", "\n\n".join(text))


def python_cells(page: str) -> Iterator[Cell]:
    """Yield the cells of a page whose code is Python, after the cell that finds the project."""
    title, *parts = re.split(r"^(?=## )|^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    yield Cell("markdown", title.strip())
    yield Cell("code", SETUP)
    yield _pipeline([RESULT])
    for i, part in enumerate(parts):
        if part and part.strip():
            yield Cell("markdown" if i % 2 else "code", part.strip())


def _cells_of(part: Part, lesson: Lesson, run: Run) -> Iterator[Cell]:
    if part.kind is Kind.QUESTIONS:
        yield from _questions(part, lesson)
    elif part.kind is Kind.COMMANDS:
        yield from _commands(part, run)
    elif part.kind is Kind.PYTHON:
        yield Cell("code", "\n".join(part.text.splitlines()[1:-1]))
    elif part.kind is Kind.ANSWERS:
        yield Cell("code", f"!darkroom course {lesson.name}    # your predictions, and once all are made your own run beside them")
        yield Cell("markdown", _markdown(part.text, lesson))
    elif part.kind is Kind.CODE:
        yield Cell("markdown", _markdown(part.text, lesson))
        for path in _modules(part, lesson):
            yield Cell("code", f'# Change it in an editor and run the command again.\nCode("{path}")')


def _questions(part: Part, lesson: Lesson) -> Iterator[Cell]:
    """Yield each question, with a cell for the student's answer."""
    introduction = re.split(r"^\d+\. ", part.text, maxsplit=1, flags=re.MULTILINE)[0].strip()
    yield Cell("markdown", _markdown(introduction, lesson))
    numbers = []
    for text in lessons.numbered(_COMMENT.sub("", part.text)):
        numbers.append(next(i for i, question in enumerate(lesson.questions, 1) if question.text == text))
        yield Cell("markdown", f"**{numbers[-1]}.** {_markdown(text, lesson)}")
        yield Cell("markdown", "*Your prediction:* ")
    lines = [f'# !darkroom course {lesson.name} --predict {number} "…"' for number in numbers]
    yield Cell("code", "\n".join(["# Stores your predictions with the project, to be compared with your own run:", *lines]))


def _commands(part: Part, run: Run) -> Iterator[Cell]:
    """Yield a block of commands, with what they need before it and what they have written after it."""
    lines: list[str] = []
    left_out: dict[str, list[str]] = {}  # by the reason
    studies: list[str] = []
    for command in lessons.commands(part.text):
        if not command.text:
            lines.append(f"# {command.comment}")
            continue
        reason = _reason(command, run)
        text = _in_own_project(command, run) if reason == OWN_PROJECT else command.text
        line = f"!{text}" + (f"    # {command.comment}" if command.comment else "")
        if reason:
            left_out.setdefault(reason, []).append(f"# {line}")
            continue
        lines.append(line)
        if run.needed and _outputs(command):
            yield _pipeline(run.needed)
            run.needed = []
        kind, name = command.target
        if kind == "study":
            studies.append(name)
            run.studies.add(name)
        elif kind == "lab":
            lines.append(f'display(Image("{_picture(command)}"))')
    lines += [line for reason, commented in left_out.items() for line in (reason, *commented)]
    yield Cell("code", "\n".join(lines))
    for name in studies:
        yield Cell("code", RESULTS.format(folder=(study.OUT / name).as_posix(), name=name))


def _pipeline(needed: list[str]) -> Cell:
    return Cell("code", PIPELINE.format(paths=json.dumps(needed)))


def _reason(command: Command, run: Run) -> str:
    """Return why a command is a comment, or an empty text where it runs."""
    kind, name = command.target
    if command.words[:2] == RECIPE or (run.recipe and (not kind or _outputs(command)) and command.words[:2] != MODELS):
        return OWN_PROJECT
    if _needs_reader(command):
        return OWN_FILES
    if "full" in command.words:
        return HOURS
    return REPLACES if kind == "study" and name in run.studies else ""


def _in_own_project(command: Command, run: Run) -> str:
    """Return a recipe, or a command after it, for a project beside this one, which the first recipe of a page makes."""
    if command.words[:2] == RECIPE and not run.recipe:
        run.recipe = command.words[2]
        return f"darkroom new ../{run.recipe} --recipe{command.text.removeprefix('darkroom recipe')}"
    return f"cd ../{run.recipe} && {command.text}"


def _needs_reader(command: Command) -> bool:
    """Return whether a command reads a file that only the reader has; the project has what it names in docs and in outputs."""
    pairs = zip(command.words, command.words[1:], strict=False)
    values = [word.rpartition("=")[2] for option, word in pairs if option not in ("--out", "--diagram")]
    own = [value for value in values if not (value.startswith("docs/") and Path(value).exists()) and not value.startswith(OUTPUTS)]
    return any(_FILE.fullmatch(value) for value in own)


def _outputs(command: Command) -> list[str]:
    """Return the files of the pipeline that a command looks into; of a model that which is written last."""
    paths = [word for word in command.words if word.startswith(OUTPUTS)]
    return [f"{path}/model.json" if path.startswith("models/") else path for path in dict.fromkeys(paths)]


def _picture(command: Command) -> str:
    words = command.words
    return words[words.index("--out") + 1] if "--out" in words else (PICTURES / f"{command.target[1]}.png").as_posix()


def _modules(part: Part, lesson: Lesson) -> list[Path]:
    """Return the modules of the package that a paragraph names, by their path or beside the one before."""
    found: list[Path] = []
    folder = SOURCE
    for name in _MODULE.findall(part.text):
        path = next((path for path in (Path(name), SOURCE / name, folder / name) if path.is_file()), None)
        if path is None:
            raise SystemExit(f"{lesson.page} names {name}, which is not there")
        if path.is_relative_to(SOURCE):
            folder = path.parent
            found += [] if path in found else [path]
    return found


def _markdown(text: str, lesson: Lesson) -> str:
    """Return Markdown without comments, whose relative links work from the folder of the notebooks."""

    def moved(link: re.Match[str]) -> str:
        return f"{link[1]}../{lesson.page.name if link[2].startswith('#') else ''}{link[2]}"

    return _LINK.sub(moved, _COMMENT.sub("", text))


if __name__ == "__main__":
    raise SystemExit(main())

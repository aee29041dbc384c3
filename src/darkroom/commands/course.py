"""The course: lessons, predictions made before a run, and answers after them."""

from __future__ import annotations

import re
import shutil
import textwrap
from typing import Any

import click

from darkroom.commands import study
from darkroom.commands.param_types import LESSON
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands.lab import options
    from darkroom.core import tables
    from darkroom.course import comparison, lessons, own_runs, predictions

WIDEST = 100  # columns of a paragraph


@click.command(cls=Command)
@click.argument("lesson", required=False, type=LESSON)
@click.option("--predict", nargs=2, type=(click.IntRange(min=1), str), metavar="N TEXT", help="predict the answer to question N")
@click.option("--answers", "wants_answers", is_flag=True, help="show the answers, though questions are without a prediction")
@json_option
def command(lesson: str | None, predict: tuple[int, str] | None, wants_answers: bool, as_json: bool) -> None:
    """List the lessons, or show one: what you should learn, the command to run next, and its questions.

    LESSON is a number or a name. Predict what will come out before you run its command: once every question has a prediction,
    the answers are shown, and beside them the numbers of your own run. The predictions are in studies/predictions.json.

    \b
    darkroom course depth --predict 1 "the plain one, by 5 points"
    darkroom course depth
    """
    if lesson is None and (predict or wants_answers):
        raise click.UsageError(f"name the lesson that {'--predict' if predict else '--answers'} is about")
    if predict and wants_answers:
        raise click.UsageError("--predict and --answers exclude each other")
    workspace = own_runs.Workspace(study.OUT, options.FOLDER)
    stored = predictions.Predictions.read()
    if lesson is None:
        _list(workspace, stored, as_json)
    elif predict:
        _predict(lessons.read(lesson), stored, *predict, as_json)
    else:
        _show(lessons.read(lesson), workspace, stored, wants_answers, as_json)


def _list(workspace: own_runs.Workspace, stored: predictions.Predictions, as_json: bool) -> None:
    items = lessons.read_all()
    if as_json:
        tables.print_json([_facts(item, workspace, stored) for item in items])
        return
    rows = [
        (
            item.number, item.title, item.question, _done_here(item, workspace, stored),
            f"{stored.count(item)} of {len(item.questions)}" if item.questions else "",
        )
        for item in items
    ]  # fmt: skip
    tables.show(["", "lesson", "question", "run here", "predictions"], rows, right=["", "predictions"])
    going_on = next((item for item in items if not workspace.is_done(item, bool(stored.read_on(item)))), items[0])
    click.echo(f"\n`darkroom course {going_on.number}` shows {going_on.title}")


def _done_here(lesson: lessons.Lesson, workspace: own_runs.Workspace, stored: predictions.Predictions) -> str:
    """Return what has run here; of a lesson whose command leaves nothing, when its answers were read."""
    day = stored.read_on(lesson)
    lines = [f"answers read, {day}"] if day and workspace.main(lesson) is None else []
    return "\n".join([*lines, *map(str, workspace.runs(lesson))])


def _predict(lesson: lessons.Lesson, stored: predictions.Predictions, number: int, text: str, as_json: bool) -> None:
    stored.predict(lesson, number, text)
    waiting = [i for i, item in enumerate(lesson.questions, 1) if not stored.of(lesson, item).prediction]
    if as_json:
        tables.print_json({"lesson": lesson.name, "number": number, "prediction": " ".join(text.split()), "waiting": waiting})
    elif waiting:
        click.echo(f"stored in {predictions.FILE}; without a prediction: {', '.join(map(str, waiting))}")
    else:
        click.echo(f"stored in {predictions.FILE}; every question has one: `darkroom course {lesson.name}` shows the answers")


def _show(
    lesson: lessons.Lesson, workspace: own_runs.Workspace, stored: predictions.Predictions, wants_answers: bool, as_json: bool
) -> None:
    has_answers = bool(lesson.questions) and (wants_answers or stored.may_show(lesson))
    questions = [_question(lesson, item, workspace, stored, has_answers) for item in lesson.questions]
    if as_json:
        following = workspace.next_command(lesson, bool(stored.read_on(lesson)))
        tables.print_json(
            _facts(lesson, workspace, stored)
            | {"goal": _plain(lesson.goal), "next": following and following.text, "questions": questions}
        )
    else:
        _print(lesson, workspace, stored, questions)
    if has_answers:
        stored.note_shown(lesson)


def _print(
    lesson: lessons.Lesson, workspace: own_runs.Workspace, stored: predictions.Predictions, questions: list[dict[str, Any]]
) -> None:
    click.echo(f"{click.style(f'{lesson.number}  {lesson.title}', bold=True)}: {lesson.question}\n")
    if lesson.goal:
        click.echo(f"{_wrap(f'What you should learn. {_plain(lesson.goal)}')}\n")
    following = workspace.next_command(lesson, bool(stored.read_on(lesson)))
    if following:
        click.echo(f"run next   {following.text}" + (f"    # {following.comment}" if following.comment else ""))
    for run in workspace.runs(lesson):
        click.echo(f"run here   {run}: {run.path}")
    for kind, path in (("page", lesson.page), ("notebook", lesson.notebook)):
        if path.is_file():
            click.echo(f"{kind:<10} {path}")
    for item in questions:
        click.echo("\n" + _wrap(item["question"], f"{item['number']}. "))
        for name in ("prediction", "answer"):
            if item[name] is not None:
                click.echo(_wrap(item[name], f"   {name:<11} "))
        for own in item["own_runs"] or ():
            click.echo(_wrap(own["text"], f"   {'your run':<11} "))
    waiting = next((item["number"] for item in questions if item["own_runs"] is None and item["prediction"] is None), None)
    if waiting:
        click.echo(f'\npredict    darkroom course {lesson.name} --predict {waiting} "…"    # the answers come after the last one')


def _facts(lesson: lessons.Lesson, workspace: own_runs.Workspace, stored: predictions.Predictions) -> dict[str, Any]:
    """Return what `--json` has of each lesson."""
    runs = [
        {
            "command": run.command, "size": run.size or None, "data": run.data or None,
            "when": run.when.isoformat(timespec="seconds"), "path": str(run.path),
        }
        for run in workspace.runs(lesson)
    ]  # fmt: skip
    return {
        "number": lesson.number, "name": lesson.name, "title": lesson.title, "question": lesson.question,
        "page": str(lesson.page), "runs": runs, "questions": len(lesson.questions), "predictions": stored.count(lesson),
        "read": stored.read_on(lesson) or None,
    }  # fmt: skip


def _question(
    lesson: lessons.Lesson, question: lessons.Question, workspace: own_runs.Workspace, stored: predictions.Predictions,
    has_answer: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return a question with its prediction, and with what answers it where it may be shown; None for what is not there."""
    prediction = stored.of(lesson, question).prediction
    return {
        "number": lesson.questions.index(question) + 1, "question": _plain(question.text),
        "prediction": printable(prediction) or None, "answer": _plain(question.answer) or None if has_answer else None,
        "own_runs": comparison.compare(prediction, question.measurements, workspace) if has_answer else None,
    }  # fmt: skip


def _plain(markdown: str) -> str:
    """Return Markdown in one line, without links, emphasis and code marks."""
    return re.sub(r"\*\*|`", "", re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", " ".join(markdown.split())))


def _wrap(text: str, first: str = "") -> str:
    """Return a paragraph that fits the terminal, below what stands before its first line."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)

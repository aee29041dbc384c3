"""Lessons are read from their pages alone."""

from __future__ import annotations

import pytest

from darkroom.config import package_files
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.course import lessons
from darkroom.course.lessons import Command, Kind
from darkroom.course.measurements import Measurement
from tests.conftest import ROOT

PAGE = """# A title

**What you should learn.** That a page
is enough.

**Predict before you run.** The answers are below.
1. Is the first
   question *here*?
2. By how many points? <!-- summary: tune | without, equal steps | TPE | difference -->
   <!-- leaderboard: digits | baseline | accuracy - transfer/vgg11_bn -->
   <!-- a remark -->

3. And after a blank line?

**The command.** It takes a minute.
```
# several at once
darkroom study tune --set 'a=#b'   # with a comment
darkroom lab filters models/baseline \\
    --before
dvc repro
```
```
layer  kind
conv1  Conv2d
```

<details><summary>Answers</summary>

1. Yes,
   it is.

   With a second paragraph.
2. By 4.
3. So be it.
</details>

**Next.** 1. is no question.

**The code.** `a.py`.
"""


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def parse(page: str) -> lessons.Lesson:
    return lessons.parse(3, "page", "what?", page, "darkroom study tune")


def test_a_page_is_a_lesson():
    """Goal, questions, answers and commands are what the page has under their headings, a line for each item."""
    lesson = parse(PAGE)
    assert (lesson.title, lesson.goal) == ("A title", "That a page\nis enough.")
    assert [question.text for question in lesson.questions] == [
        "Is the first question *here*?", "By how many points?", "And after a blank line?",
    ]  # fmt: skip
    assert [question.answer for question in lesson.questions] == ["Yes, it is. With a second paragraph.", "By 4.", "So be it."]
    assert lesson.questions[1].measurements == (
        Measurement("summary", "tune", "without, equal steps", "TPE", "difference"),
        Measurement("leaderboard", "digits", "", "baseline", "accuracy", "-", "transfer/vgg11_bn"),
    )
    assert lesson.command == Command("darkroom study tune")
    assert lesson.commands == (
        Command("darkroom study tune --set 'a=#b'", "with a comment"),
        Command("darkroom lab filters models/baseline --before"),
        Command("dvc repro"),
    )
    assert [command.target for command in lesson.commands] == [("study", "tune"), ("lab", "filters"), ("", "")]
    assert [part.kind for part in lesson.parts] == [
        Kind.TEXT, Kind.TEXT, Kind.QUESTIONS, Kind.TEXT, Kind.COMMANDS, Kind.TEXT, Kind.ANSWERS, Kind.TEXT, Kind.CODE,
    ]  # fmt: skip


def test_no_word_of_a_page_is_lost():
    """The parts of a page are its text, in its order."""
    for lesson in lessons.read_all():
        text = (ROOT / lesson.page).read_text(encoding="utf-8")
        assert "\n".join(part.text for part in lesson.parts).split() == text.split()


def test_a_page_without_the_parts_of_a_lesson_is_one():
    """A page with a title alone is a lesson without questions."""
    lesson = parse("# A title\n\nText.\n")
    assert (lesson.goal, lesson.questions, lesson.commands) == ("", (), ())


@pytest.mark.parametrize(
    ("page", "fact"),
    [
        ("Text", "has no title"),
        (PAGE.replace("| difference", "| differenze"), "with a field of accuracy"),
        (PAGE.replace("| TPE ", ""), "STUDY | COMPARISON | LABEL | FIELD"),
        (PAGE.replace("| baseline ", ""), "RECIPE | MODEL | FIELD"),
    ],
)
def test_a_page_that_is_no_lesson_is_named(page, fact):
    """A mistake in a page is one sentence that names the page, and what to write."""
    with pytest.raises(WorkspaceError) as caught:
        parse(page)
    assert "docs/case-studies/page.md" in str(caught.value)
    assert fact in str(caught.value)


def test_the_pages_are_the_lessons():
    """Every page of the folder is in the table, and a page with questions has a goal and as many answers."""
    pages = {path.stem for path in (ROOT / lessons.PAGES).glob("*.md")} - {"README"}
    assert sorted(lessons.names()) == sorted(pages)
    for number, lesson in enumerate(lessons.read_all(), 1):
        assert lesson.number == number
        assert lesson.commands, lesson.name
        assert not lesson.questions or lesson.goal, lesson.name
        answers = [item for part in lesson.parts if part.kind is Kind.ANSWERS for item in lessons.numbered(part.text)]
        assert [question.answer for question in lesson.questions] == answers, lesson.name


def test_a_lesson_has_a_number_and_a_name():
    """Both name a lesson; another word is a mistake, with the nearest name."""
    assert lessons.read("1") == lessons.read("kernels")
    with pytest.raises(ParamsError, match='did you mean "autoencoder"'):
        lessons.read("autoencodr")


def test_a_project_without_pages_has_those_of_darkroom(tmp_path, monkeypatch):
    """A project elsewhere has the whole course; of pages that are missing or damaged a sentence has the remedy."""
    names = lessons.names()
    monkeypatch.chdir(tmp_path)
    assert lessons.names() == names
    monkeypatch.setattr(package_files, "root", lambda: tmp_path)
    with pytest.raises(WorkspaceError, match="page of the course"):
        lessons.names()
    (tmp_path / lessons.PAGES).mkdir(parents=True)
    (tmp_path / lessons.PAGES / "README.md").write_text("no table")
    with pytest.raises(WorkspaceError, match="no table of lessons"):
        lessons.names()

"""The student's predictions, in studies/predictions.json: a small file of their own, to be committed or not.

A prediction belongs to the text of its question, so that a page whose questions have changed takes over none that was
about something else. Once the answer to a question was shown, its prediction stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from darkroom.core import atomic, json_files
from darkroom.core.errors import ParamsError
from darkroom.course.lessons import Lesson, Question

FILE = Path("studies/predictions.json")
REMEDY = f"restore it: `git checkout {FILE}`, or delete it, which forgets all predictions"


@dataclass(frozen=True)
class Entry:
    """A prediction, empty where none was made, and the day on which the answer was first shown, empty before."""

    prediction: str = ""
    answer_shown: str = ""


@dataclass(frozen=True)
class Predictions:
    """All entries, by the name of the lesson and the text of the question."""

    entries: dict[str, dict[str, Entry]]

    @classmethod
    def read(cls) -> Predictions:
        """Return the content of the file. Raises WorkspaceError where it is damaged."""
        try:
            return cls(json_files.read(FILE, dict[str, dict[str, Entry]], REMEDY))
        except FileNotFoundError:
            return cls({})

    def of(self, lesson: Lesson, question: Question) -> Entry:
        return self.entries.get(lesson.name, {}).get(question.text, Entry())

    def count(self, lesson: Lesson) -> int:
        """Return how many questions of a lesson have a prediction."""
        return sum(bool(self.of(lesson, question).prediction) for question in lesson.questions)

    def may_show(self, lesson: Lesson) -> bool:
        """Return whether no question of a lesson waits for a prediction."""
        return all(self.of(lesson, question) != Entry() for question in lesson.questions)

    def read_on(self, lesson: Lesson) -> str:
        """Return the day on which the last answer of a lesson was first shown; an empty text before."""
        days = [self.of(lesson, question).answer_shown for question in lesson.questions]
        return max(days, default="") if all(days) else ""

    def predict(self, lesson: Lesson, number: int, text: str) -> None:
        """Store the prediction for a question, counted from 1.

        Raises ParamsError for a question that does not exist or whose answer was shown, and for an empty text.
        """
        if not 1 <= number <= len(lesson.questions):
            count = len(lesson.questions)
            remedy = f"choose from 1 to {count}" if count else f"read the page: {lesson.page}"
            raise ParamsError(f"there is no question {number} in the lesson {lesson.name}, which has {count}", remedy)
        question, plain = lesson.questions[number - 1], " ".join(text.split())
        if not plain or any("\ud800" <= character <= "\udfff" for character in plain):
            example = f'darkroom course {lesson.name} --predict {number} "…"'
            raise ParamsError("the prediction is no text", f"write one in quotes: `{example}`")
        entry = self.of(lesson, question)
        if entry.answer_shown:
            problem = f"the answer to question {number} was shown on {entry.answer_shown}, so nothing can be predicted any more"
            raise ParamsError(problem, f"keep it as it is, or delete the question from {FILE} to begin again")
        self._store(lesson, {question.text: replace(entry, prediction=plain)})

    def note_shown(self, lesson: Lesson) -> None:
        """Store that the answers are shown today, where they were not shown before."""
        entries = {question.text: self.of(lesson, question) for question in lesson.questions}
        today = date.today().isoformat()
        self._store(lesson, {text: replace(item, answer_shown=today) for text, item in entries.items() if not item.answer_shown})

    def _store(self, lesson: Lesson, changed: Mapping[str, Entry]) -> None:
        if changed:
            self.entries.setdefault(lesson.name, {}).update(changed)
            atomic.write_json(FILE, {name: {text: asdict(item) for text, item in of.items()} for name, of in self.entries.items()})

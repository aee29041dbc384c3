"""Every page of the course has all parts of a lesson, in order, and its drawings are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkroom.course import lessons
from docs import drawings
from tests.conftest import ROOT

PAGES = sorted(path.stem for path in (ROOT / lessons.PAGES).glob("*.md") if path.stem != "README")
FIRST = {  # parts by their beginnings, in the order in which a page has them for the first time
    "title": r"\A# ",
    "what you should learn": r"^\*\*What you should learn\.\*\*",
    "drawing": r"^!\[[^]]+\]\(\.\./images/blocks/[\w-]+\.svg\)",
    "questions": r"^\*\*Predict before you run\.\*\*",
    "command": r"^\*\*The command\.\*\*",
    "block of commands": r"^```$",
    "picture": r"^!\[[^]]+\]\(\.\./images/(?!blocks/mlp)[\w/-]+\.(png|svg)\)",
    "findings": r"^\*\*Findings(\.\*\*|\*\*)",
}
LAST = {  # parts that sections of their own may have too; the last ones are in this order
    "answers": r"^<details><summary>Answers</summary>",
    "why": r"^\*\*Why[^*]*\*\*",
    "limits": r"^\*\*Limits\.\*\*",
    "next": r"^\*\*Next\.\*\*",
    "code": r"^\*\*The code\.\*\* .*`",
}
INTERVAL = re.compile(r"\(−?\d[\d.,]* … \+?[−\d][\d.,]*\)")
CITATION = re.compile(r"\b(19|20)\d\d[a-z]?\b|\b(figures?|tables?|sections?) [\d.]+( and \d+)?")
COUNTED = {"classic", "kernels"}  # costs and responses, which are the same in every run: they have no interval


def read(name: str) -> str:
    return (ROOT / lessons.PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(page: str, first: str, last: str) -> str:
    """Return the text from the last place where a part begins to the next part."""
    start = [match.start() for match in re.finditer(first, page, re.MULTILINE)][-1]
    end = re.search(last, page[start:], re.MULTILINE)
    return page[start : start + end.start()] if end else page[start:]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_all_parts_in_order(name):
    """A page has goal, drawing, questions, command, picture, findings, answers, cause, limits, next steps, code, in this order."""
    page = read(name)
    place = -1
    for part, pattern in FIRST.items():
        after = [m.start() for m in re.finditer(pattern, page, re.MULTILINE) if m.start() > place]
        assert after, f"{part} is missing, or before the part that it follows"
        place = after[0]
    for part, pattern in LAST.items():
        matches = [match.start() for match in re.finditer(pattern, page, re.MULTILINE)]
        assert matches, f"{part} is missing"
        assert matches[-1] > place, f"{part} is before the part that it follows"
        place = matches[-1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_first_what_it_teaches(name):
    """The goal has at least three sentences, the paper, and the paper's own figure."""
    goal = lessons.read(name).goal
    assert len(re.findall(r"[.:](?=\s|$)(?<!et al\.)", goal)) >= 3, goal
    assert re.search(r"\b(19|20)\d\d\b", goal), "the paper is missing"
    assert re.search(r"\d", CITATION.sub("", goal)), "the paper's figure is missing"


@pytest.mark.parametrize("name", PAGES)
def test_a_finding_has_an_interval_and_a_measured_cause(name):
    """Findings have intervals, unless they are counted, and the cause rests on a figure that is not that of a paper."""
    page = read(name)
    findings = section(page, r"^\*\*Findings", r"^<details>|^\*\*Limits")
    assert name in COUNTED or INTERVAL.search(findings), "no interval"
    cause = section(page, LAST["why"], LAST["limits"])
    assert re.search(r"\d", CITATION.sub("", cause)), f"no measurement: {cause}"


@pytest.mark.slow
def test_the_drawings_are_those_of_the_code(monkeypatch):
    """docs/images/blocks has what the code draws of itself, and each drawing is on a page."""
    monkeypatch.chdir(ROOT)
    folder = Path("docs/images/blocks")
    drawn = drawings.drawings()
    assert {path.stem for path in folder.iterdir()} == set(drawn), "run `docs/pictures.py blocks`"
    for name, svg in drawn.items():
        assert (folder / f"{name}.svg").read_text(encoding="utf-8") == svg, f"{name}: run `docs/pictures.py blocks`"
    pages = "".join(path.read_text(encoding="utf-8") for path in Path("docs").rglob("*.md"))
    assert {name for name in drawn if f"blocks/{name}.svg" not in pages} == set()

"""`darkroom fix`: corrected labels become lines of data/label_fixes.csv."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.config.yaml_files import read_yaml
from darkroom.data import label_fixes, manifest
from darkroom.data.ingest import _fix_labels
from darkroom.data.source_row import SourceRow
from tests.completion import completions
from tests.conftest import ROOT

FIXES = Path("data/label_fixes.csv")
ISSUES = Path("reports/label_issues.csv")
ODD = ('cat/a, "b".png', "cat/=1+1.png", "cat/@x.png", "-cat/-y.png", "+cat/e\u0301.png", "cat/line\r.png", "cat/two\nlines.png")


def row(path: str, label: str = "cat", split: str = "train", **values: str) -> manifest.Row:
    return manifest.Row(
        path=path, label=label, source_label=label, split=split, sha256=f"sha {path}", pixel_hash=f"px {path}", **values
    )


ROWS = [
    row("cat/1.png"), row("cat/2.png", split="test"), row("cat/3.png"), row("cat/copy.png"), row("dog/1.png", "dog"),
    row("dog/4.png", "dog", status="quarantined", reason="label_conflict"),
    row("dog/5.png", "dog", status="quarantined", reason="corrupt", detail="cannot be decoded"), row("emu/1.png", "emu"),
]  # fmt: skip
ROWS[3].pixel_hash = ROWS[2].pixel_hash


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("data/ingested", "reports"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    FIXES.write_text("image,label\n")
    write_rows(ROWS)
    Path("data/ingested/classes.json").write_text('["cat", "dog", "emu"]')
    return tmp_path


def write_rows(rows: list[manifest.Row]) -> None:
    manifest.write(Path("data/ingested/manifest.parquet"), rows)


def suggest(*lines: tuple[str, str, str], **more: str) -> None:
    """Write candidates of path, label and suggestion."""
    with ISSUES.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "sha256", "split", "label", "suggested", "confidence", "quality"])
        writer.writerows([path, more.get("sha256", f"sha {path}"), "train", label, to, "0.9", "0.01"] for path, label, to in lines)


@pytest.fixture
def typed(monkeypatch):
    """Return a function that puts lines into a terminal."""

    def type_lines(text: str) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stdin", Terminal(text))

    return type_lines


def test_a_corrected_label_is_a_line_that_ingest_applies(workspace, capsys):
    """The line is read back by `ingest`, the other lines keep their places, and the message has both labels and the next step."""
    FIXES.write_text("image,label\ndog/1.png,emu\n")
    assert cli.main(["fix", "cat/1.png", "dog"]) == 0
    assert FIXES.read_text() == "image,label\ndog/1.png,emu\ncat/1.png,dog\n"
    output = capsys.readouterr().out
    assert "cat/1.png: dog, was cat" in output
    assert "dvc repro" in output
    image = SourceRow(path="cat/1.png", label="cat", source_label="cat")
    _fix_labels([image, SourceRow(path="emu/1.png", label="emu", source_label="emu", status="quarantined"),
                 SourceRow(path="dog/1.png", label="dog", source_label="dog")], label_fixes.read(FIXES))  # fmt: skip
    assert image.label == "dog"


def test_a_second_correction_replaces_the_first(workspace, capsys):
    """An image has one line, whose place it keeps; the label before is that of the line."""
    FIXES.write_text("image,label\ncat/1.png,dog\ndog/1.png,cat\n")
    assert cli.main(["fix", "cat/1.png", "emu"]) == 0
    assert FIXES.read_text() == "image,label\ncat/1.png,emu\ndog/1.png,cat\n"
    assert "emu, was dog" in capsys.readouterr().out
    before = FIXES.stat().st_mtime_ns
    assert cli.main(["fix", "cat/1.png", "emu"]) == 0
    assert FIXES.stat().st_mtime_ns == before
    assert "already" in capsys.readouterr().out


def test_an_image_has_several_names(workspace, tmp_path):
    """The manifest's path, the file, relative or absolute, and the pixel hash name the same image."""
    source = Path(read_yaml(Path("params.yaml"))["ingest"]["source"])
    for name in (
        "cat/1.png",
        f"{source}/cat/1.png",
        f"./{source}/../{source.name}/cat/1.png",
        str(tmp_path / source / "cat/1.png"),
    ):
        FIXES.write_text("image,label\n")
        assert cli.main(["fix", name, "dog"]) == 0
        assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
    FIXES.write_text("image,label\n")
    assert cli.main(["fix", "px cat/1.png", "dog"]) == 0
    assert label_fixes.read(FIXES) == {"px cat/1.png": "dog"}


def test_a_line_by_pixel_hash_is_not_contradicted_by_one_by_path(workspace):
    """Where a line names the picture by its pixel hash, that line is changed: two lines that disagree would stop `ingest`."""
    FIXES.write_text("image,label\npx cat/3.png,dog\n")
    assert cli.main(["fix", "cat/copy.png", "emu"]) == 0
    assert label_fixes.read(FIXES) == {"px cat/3.png": "emu"}


@pytest.mark.parametrize("path", ODD)
def test_names_are_written_unchanged(workspace, path):
    """Commas, quotes, line breaks and what a spreadsheet takes for a formula come back from the file, in NFC."""
    write_rows([row(path, path.split("/")[0]), row('=dog,"x/1.png', '=dog,"x')])
    assert cli.main(["fix", "--", path, '=dog,"x']) == 0
    assert label_fixes.read(FIXES) == {unicodedata.normalize("NFC", path): '=dog,"x'}


def test_decomposed_names_are_the_same_image(workspace):
    """An image and a class are known by their composed and decomposed names."""
    write_rows([row("e\u0301/1.png", "\u00e9"), row("cat/1.png")])
    FIXES.write_text("image,label\n")
    assert cli.main(["fix", "\u00e9/1.png", "cat"]) == 0
    assert cli.main(["fix", "cat/1.png", "e\u0301"]) == 0
    assert label_fixes.read(FIXES) == {"\u00e9/1.png": "cat", "cat/1.png": "\u00e9"}


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["cat/11.png", "dog"], ['"cat/11.png"', 'did you mean "cat/1.png"?', "remedy"]),
        (["other/3.png", "dog"], ['did you mean "cat/3.png"?']),
        (["cat/1.png", "dgo"], ['"dgo"', 'did you mean "dog"?', "cat, dog, emu"]),
        (["cat/1.png", "zebra"], ["cat, dog, emu", "folder"]),
        (["dog/5.png", "cat"], ["cannot be decoded", "data.html"]),
        (["--remove", "cat/1.png"], ["no line for"]),
        (["cat/1.png"], ["darkroom fix PATH LABEL"]),
        ([], ["darkroom fix PATH LABEL"]),
        (["cat/1.png", "dog", "--from", "x.csv"], ["exclude each other"]),
        (["cat/1.png", "dog", "--top", "3"], ["--from"]),
        (["--from", "none.csv", "--top", "3"], ["there is no file none.csv", "dvc repro diagnose"]),
        (["--from", "data/label_fixes.csv", "--top", "3"], ["no column path"]),
        (["--from", "reports/label_issues.csv"], ["--top N", "--review"]),
        (["--from", "reports/label_issues.csv", "--review"], ["no terminal", "--top N"]),
        (["--from", "reports/label_issues.csv", "--review", "--json"], ["exclude each other"]),
    ],
)  # fmt: skip
def test_mistakes_are_refused_with_a_remedy(workspace, capsys, monkeypatch, words, texts):
    """Exit code 2, the nearest name and what to do; the file is unchanged."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    suggest(("cat/1.png", "cat", "dog"))
    assert cli.main(["fix", *words]) == 2
    message = capsys.readouterr().err
    assert all(text in message for text in texts), message
    assert FIXES.read_text() == "image,label\n"


def test_without_an_ingest_there_is_a_remedy(workspace, capsys):
    """Before the first ingest no image is known."""
    Path("data/ingested/manifest.parquet").unlink()
    assert cli.main(["fix", "cat/1.png", "dog"]) == 2
    assert "`dvc repro ingest`" in capsys.readouterr().err


def test_the_label_of_a_conflict_can_be_decided(workspace):
    """An image that is quarantined for a conflict of labels is corrected like any other: that is the remedy of the conflict."""
    assert cli.main(["fix", "dog/4.png", "cat"]) == 0
    assert label_fixes.read(FIXES) == {"dog/4.png": "cat"}


def test_a_removed_line_is_gone(workspace, capsys):
    """The image has the source's label again, the other lines stay; the line of an image that is gone can be removed too."""
    FIXES.write_text("image,label\ncat/1.png,dog\ngone/1.png,cat\ndog/1.png,cat\n")
    assert cli.main(["fix", "--remove", "cat/1.png"]) == 0
    assert "cat again, was dog" in capsys.readouterr().out
    assert cli.main(["fix", "--remove", "gone/1.png"]) == 0
    assert FIXES.read_text() == "image,label\ndog/1.png,cat\n"


def test_test_images_are_never_accepted_unseen(workspace, capsys):
    """--top takes the first N lines; those of test images, by the manifest, are named with the reason and stay as they were."""
    suggest(("cat/2.png", "cat", "dog"), ("cat/1.png", "cat", "emu"), ("cat/3.png", "cat", "dog"))
    assert cli.main(["fix", "--from", str(ISSUES), "--top", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["changes"] == [{"image": "cat/1.png", "label": "emu", "before": "cat"}]
    assert [item["image"] for item in printed["left_out"]] == ["cat/2.png"]
    assert "test image" in printed["left_out"][0]["reason"]
    assert label_fixes.read(FIXES) == {"cat/1.png": "emu"}


def test_what_a_person_decided_is_not_overridden(workspace, capsys):
    """Suggestions for an image with a line, of a changed file, without such a class or image are left out."""
    FIXES.write_text("image,label\ncat/1.png,emu\n")
    suggest(("cat/1.png", "cat", "dog"), ("cat/3.png", "cat", "zebra"), ("gone.png", "cat", "dog"))
    assert cli.main(["fix", "--from", str(ISSUES), "--top", "9"]) == 0
    output = capsys.readouterr().out
    assert "its label is emu by now" in output
    assert "3 suggestions left out" in output
    suggest(("cat/3.png", "cat", "dog"), sha256="another")
    assert cli.main(["fix", "--from", str(ISSUES), "--top", "9"]) == 0
    assert label_fixes.read(FIXES) == {"cat/1.png": "emu"}


def test_a_review_asks_about_each(workspace, capsys, typed):
    """y accepts, n skips, a class name is the label, q stops; a misspelt class is asked again; test images are asked about."""
    suggest(*((f"cat/{name}.png", "cat", "dog") for name in (1, 2, 3, "copy")))
    typed("n\nemmu\nemu\ny\nq\n")
    assert cli.main(["fix", "--from", str(ISSUES), "--review"]) == 0
    output = capsys.readouterr().out
    assert label_fixes.read(FIXES) == {"cat/2.png": "emu", "cat/3.png": "dog"}
    assert 'did you mean "emu"?' in output
    assert "cat/2.png (test)" in output
    assert "quality 0.01" in output


def test_a_review_that_is_broken_off_keeps_what_was_accepted(workspace, capsys, typed):
    """The end of input, as Ctrl-C, loses no answer; the exit code is 130."""
    suggest(("cat/1.png", "cat", "dog"), ("cat/3.png", "cat", "dog"))
    typed("y\n")
    assert cli.main(["fix", "--from", str(ISSUES), "--review"]) == 130
    assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
    assert "dvc repro" in capsys.readouterr().out


def test_a_class_may_be_called_y(workspace, capsys, typed):
    """Where a class has the name of an answer, it is typed with an equals sign before it, as the review says."""
    write_rows([row("cat/1.png"), row("y/1.png", "y"), row("n/1.png", "n")])
    suggest(("cat/1.png", "cat", "n"))
    typed("=y\n")
    assert cli.main(["fix", "--from", str(ISSUES), "--review"]) == 0
    assert label_fixes.read(FIXES) == {"cat/1.png": "y"}
    assert "=n for the class n" in capsys.readouterr().out


def test_images_and_classes_are_completed(workspace):
    """The tab key offers images of the last ingest and its classes."""
    assert completions("fix", "cat/") == ["cat/1.png", "cat/2.png", "cat/3.png", "cat/copy.png"]
    assert completions("fix", "cat/1.png", "") == ["cat", "dog", "emu"]

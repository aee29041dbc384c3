"""The documents: links, navigation, the reference that is made from the code, and the commands and messages that pages name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from PIL import Image

from darkroom.cli import group
from darkroom.config.yaml_files import read_yaml
from darkroom.data import subsets
from docs import build_site
from tests.conftest import ROOT

SOURCES = build_site.sources()
PAGES = [path for path in SOURCES if path.suffix == ".md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`[^`\n]+`")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
CHANGES = Path("CHANGELOG.md")  # names commands that are gone
NOT_A_COMMAND = re.compile(r"[…<>{}*]|^[A-Z_]+$")  # a placeholder, such as COMMAND or <stage>


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as git hosts and Python's Markdown make them alike."""
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in HEADING.findall(CODE.sub("", text_of(path))))
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page):
    """A relative link of a page leads to a file that the site has, and to a heading of it; the site and a git host agree."""
    targets = {path for source in SOURCES for path in (source, *source.parents)}
    for address in LINK.findall(SPAN.sub("", CODE.sub("", text_of(page)))):
        if "://" in address or address.startswith("mailto:"):
            continue
        name, _, anchor = address.partition("#")
        target = (ROOT / page.parent / name).resolve().relative_to(ROOT) if name else page
        assert target in targets, f"{page} links to {address}"
        assert not anchor or anchor in anchors(target), f"{page} links to {address}"


def nav_pages(items: list[object]) -> Iterator[str]:
    """Yield the pages of a navigation."""
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from nav_pages(value) if isinstance(value, list) else [str(value)]


def test_every_page_is_in_the_navigation():
    """mkdocs.yml names each page once, and none that is not there."""
    named = list(nav_pages(yaml.safe_load(text_of(Path("mkdocs.yml")))["nav"]))
    assert sorted(named) == sorted(map(str, PAGES))


def test_a_built_site_that_is_not_whole_is_told(tmp_path):
    """A dead link, a wrong anchor, a missing picture and a script from elsewhere are each named; other addresses are not."""
    (tmp_path / "a.html").write_text(
        '<h2 id="there">x</h2><a href="b.html">x</a><a href="#there">x</a><a href="#nowhere">x</a><img src="c.png">'
        '<script src="https://example.org/x.js"></script><a href="https://example.org">x</a><img src="data:image/png;base64,">'
    )
    problems = sorted(build_site.check(tmp_path))
    assert [re.split(" (?:links to|loads) ", problem)[1].partition(",")[0] for problem in problems] == [
        "#nowhere", "b.html", "c.png", "https://example.org/x.js",
    ]  # fmt: skip


def test_pages_are_given_the_empty_lines_that_markdown_wants():
    """Before a table and a list that follow a paragraph, and after code; not in code, nor within a table or a list."""
    page = "words\n| a |\n| - |\n| b |\nwords\n- one\n  more\n- two\n```\nwords\n- code\n<details>\n```\n<details>\n"
    assert build_site.as_site_page(page) == (
        "words\n\n| a |\n| - |\n| b |\nwords\n\n- one\n  more\n- two\n```\nwords\n- code\n<details>\n```\n\n<details markdown>\n"
    )


def test_a_picture_links_to_itself():
    """A picture on a line of its own opens in full size; a drawing, a picture in a sentence and one in code stay as they are."""
    page = "![a chart](b/c.png)\n![a drawing](d.svg)\nsee ![this](e.png)\n```\n![code](f.png)\n```\n"
    assert build_site.as_site_page(page) == page.replace("![a chart](b/c.png)", "[![a chart](b/c.png)](b/c.png)")


def prose(text: str) -> Iterator[str]:
    """Yield the lines of a page that can be wrapped: no code, tables, headings, links of a line of their own."""
    for line in CODE.sub("", text).splitlines():
        words = line.strip()
        if words and not words.startswith(("|", "#", "<", "!", "[")) and not LINK.fullmatch(words.lstrip("-* ").rstrip(".,;:)")):
            yield line


@pytest.mark.parametrize("page", [page for page in PAGES if "reference" not in page.parts], ids=str)
def test_lines_of_prose_are_read_at_a_glance(page):
    """Lines of prose have at most 110 columns, but for one that is a long link or a command, which is not divided."""
    whole = [SPAN, re.compile(r"\]\([^)]*\)")]
    long = [line for line in prose(text_of(page)) if len(line) > 110 and all(len(kind.sub("`", line)) > 60 for kind in whole)]
    assert not long, "\n".join(long)


def test_the_readme_is_one_screen():
    """README.md is short; what is longer has a page."""
    assert len(text_of(Path("README.md")).splitlines()) <= 90


def without_values(text: str) -> list[list[str]]:
    """Return the cells of a page's lines without the columns of values, which a project changes in its files of params."""
    lines, dropped = [], []
    for line in text.splitlines():
        cells = re.split(r"(?<!\\) \| ", line)
        if not line.startswith("|"):
            dropped = []
        elif not dropped:
            dropped = [number for number, name in enumerate(cells) if name in ("value", "quick", "full")] or [-1]
        lines.append([cell for number, cell in enumerate(cells) if number not in dropped])
    return lines


@pytest.mark.slow
def test_the_reference_is_the_code():
    """The pages of docs/reference are what docs/reference.py makes of the code as it is; values of params are a project's own."""
    from docs import reference

    pages = reference.pages()
    assert sorted(map(str, pages)) == sorted(str(path) for path in PAGES if path.parent == reference.OUT), "run `make docs`"
    for path, text in pages.items():
        assert without_values(text_of(path)) == without_values(text), (
            f"{path} is not what the code says: run `make docs`, and commit it"
        )


@pytest.mark.slow
def test_every_output_of_a_stage_is_described():
    """The page of the output files says what each output of dvc.yaml holds, and describes nothing else."""
    from docs import reference_files

    outputs = {path: text for path, _, text in reference_files.outputs(read_yaml(ROOT / "dvc.yaml")["stages"])}
    missing = [path for path, text in outputs.items() if not text]
    assert not missing, f"give these a `desc` in dvc.yaml: {missing}"
    assert set(reference_files.OUTPUTS) <= set(outputs)


def test_every_variable_of_the_environment_is_described():
    """The page of the command line has each variable of Darkroom's that the code reads or sets."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    names = {name for path in files for name in re.findall(r"DARKROOM_[A-Z_]+", path.read_text(encoding="utf-8"))}
    assert set(re.findall(r"^\| `(DARKROOM_\w+)`", text_of(Path("docs/reference/cli.md")), re.MULTILINE)) == names


def test_every_param_has_a_meaning():
    """Each key in the page of params.yaml has a type, a value and a meaning, which is the comment beside it in the file."""
    text = text_of(Path("docs/reference/params.md"))
    rows = [re.split(r"(?<!\\)\| ", line) for line in text.splitlines() if line.startswith("| `")]
    values = read_yaml(ROOT / "params.yaml")
    assert len(rows) == sum(len(content) if isinstance(content, dict) else 1 for content in values.values())
    for _, key, kind, value, _, meaning, *_ in rows:
        assert all(cell.strip() for cell in (kind, value, meaning)), key


def commands_of(page: Path) -> Iterator[str]:
    """Yield the commands of a page: code that begins with `darkroom`, up to a comment or another command."""
    text = text_of(page)
    blocks = [line for block in CODE.finditer(text) for line in block[0].replace("\\\n", " ").splitlines()]
    for code in [span[1:-1] for span in SPAN.findall(CODE.sub("", text))] + blocks:
        for part in re.split(r" #|&&|\|\||[|;>]", code):
            if re.match(r"\s*darkroom [a-z]", part):
                yield part.strip()


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference" and page != CHANGES], ids=str)
def test_every_command_that_a_page_names_exists(page):
    """Each `darkroom …` of a page is a command, with options that it has; `make docs-check` runs those of the how-to pages."""
    for line in commands_of(page):
        try:
            words = shlex.split(line)[1:]
        except ValueError:  # a quote that goes on in the next line
            continue
        command: click.Command = group
        while isinstance(command, click.Group) and words and not words[0].startswith("-") and not NOT_A_COMMAND.search(words[0]):
            name = words.pop(0).rstrip(".,")
            subcommand = command.get_command(click.Context(command), name)
            assert subcommand, f"{page}: there is no command {name} in `{line}`"
            command = subcommand
        if not command.add_help_option:  # it hands its words on, as `flow` does; its options are in the reference
            continue
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "--debug"}
        for word in words:
            option = word.partition("=")[0].rstrip(",")
            assert not word.startswith("--") or word == "--" or option in options, f"{page}: no option {option} in `{line}`"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_program_that_a_page_names_exists(page):
    """`make TARGET` is a target of the Makefile, and `python benchmarks/NAME.py` or `docs/NAME.py` a file."""
    targets = set(re.findall(r"^([a-z-]+):", text_of(Path("Makefile")), re.MULTILINE))
    code = "\n".join([*SPAN.findall(CODE.sub("", text_of(page))), *(block[0] for block in CODE.finditer(text_of(page)))])
    named = set(re.findall(r"(?:^|`|[;&|] )make ([a-z][a-z-]*)", code, re.MULTILINE))
    assert named <= targets, f"{page}: make {named - targets}"
    for path in re.findall(r"\b((?:benchmarks|docs)/\w+\.py)\b", text_of(page)):
        assert (ROOT / path).is_file(), f"{page} names {path}"


def test_the_arrays_of_cifar10_are_made_as_the_course_says(tmp_path, monkeypatch):
    """The lines of docs/case-studies/README.md make a cifar10.npz of folders of JPEGs, which a study reads as they are."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 3), ("test", 2)):
        for level, label in ((40, "cat"), (200, "ship")):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (level, level, level)).save(folder / f"{i:04}.jpg")
    block = next(block for block in PYTHON.findall(text_of(Path("docs/case-studies/README.md"))) if "cifar10.npz" in block)
    exec(compile(block, "README.md", "exec"), {})
    subset = subsets.load_subset(subsets.SubsetOptions("cifar10.npz", 32))
    assert subset.classes == ("cat", "ship")
    for (images, labels), count in ((subset.train, 3), (subset.held_out, 2)):
        assert images.shape == (2 * count, 3, 32, 32)
        assert sorted(labels) == [0] * count + [1] * count
        assert (images.mean((1, 2, 3)).round() == [[40, 200][label] for label in labels]).all()


def test_the_messages_of_troubleshooting_exist():
    """Each message that the page quotes, up to `…`, is in the code, but for those of DVC and torch."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").glob("*.py"), ROOT / "Makefile"]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r'"\s*f?"', "", code)  # texts that go on in the next line
    rows = [line.split(" | ")[0] for line in text_of(Path("docs/troubleshooting.md")).splitlines() if line.startswith("| `")]
    quoted = [span for row in rows if "(DVC)" not in row and "(torch)" not in row for span in re.findall(r"``?([^`]+)`", row)]
    for message in quoted:
        for part in filter(None, map(str.strip, message.split("…"))):
            assert part in code or part.startswith("dvc "), f"no message has {part!r}"
    assert len(quoted) > 20

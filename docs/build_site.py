"""Build the site of the documents into build/site: `.venv/bin/python -m docs.build_site` (`make docs`).

The pages keep their places, README.md at the top, so that every link is the same on a git host and on the site. They are copied
to build/pages with what Python's Markdown needs more than a git host does. The site opens from files, and loads nothing from
elsewhere: links, anchors, pictures and scripts of the pages that were built are checked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
KINDS = (".md", ".png", ".jpg", ".svg", ".ipynb", ".js", ".css")
FENCE = re.compile(r"^ *```")
PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)\s]+\.(?:png|jpg))\)$")  # a line of its own
BLOCK = re.compile(r"^(\||[-*] |\d+\. )")  # a table or a list, before which Python's Markdown wants an empty line
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}  # what a browser loads with the page
POINTERS = {"canonical", "next", "prev", "alternate"}  # relations of <link> that load nothing


def main() -> int:
    stage()
    program = shutil.which("zensical", path=str(Path(sys.executable).parent)) or shutil.which("zensical")
    if not program:
        print("error: Zensical is not installed\n  remedy: `make install`, or `pip install -e '.[docs]'`", file=sys.stderr)
        return 2
    shutil.rmtree(SITE, ignore_errors=True)
    built = subprocess.run([program, "build", "--clean", "--strict"], cwd=ROOT, capture_output=True, text=True)
    if built.returncode:
        print(built.stdout + built.stderr, file=sys.stderr)
        return 1
    problems = sorted(check(SITE))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"{len(list(SITE.rglob('*.html')))} pages: {(SITE / 'index.html').relative_to(ROOT)}")
    return 1 if problems else 0


def sources() -> list[Path]:
    """Return the files of the site, from the root of the project."""
    inside = (path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*")) if path.suffix in KINDS)
    return [*(Path(name) for name in TOP), *inside]


def stage() -> None:
    """Copy the files of the site to build/pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for path in sources():
        (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (PAGES / path).write_text(as_site_page((ROOT / path).read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, PAGES / path)


def as_site_page(text: str) -> str:
    """Return a page with what a git host does without: empty lines before tables and lists and after code, Markdown in
    <details>, and links from pictures to themselves, in full size.
    """
    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        before = lines[-1] if lines else ""
        is_after_code = not is_code and FENCE.match(before)
        if FENCE.match(line):
            is_code = not is_code
        kind, kind_before = BLOCK.match(line), BLOCK.match(before)
        is_block = not is_code and kind and before.strip() and not kind_before and not before.startswith(" ")
        if is_block or (is_after_code and line.strip() and not line.startswith(" ")):
            lines.append("")
        lines.append(line if is_code else PICTURE.sub(r"[\g<0>](\1)", line.replace("<details>", "<details markdown>")))
    return "\n".join(lines) + "\n"


class _Page(HTMLParser):
    """The ids of a page, and its links: tag, attribute, address."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "link" and values.get("rel") in POINTERS:
            return
        self.links += [(tag, name, values[name]) for name in ("href", "src") if name in values]


def check(site: Path) -> Iterator[str]:
    """Yield a sentence for each link of a built site that leads nowhere, and for each file that a page loads from elsewhere."""
    pages = {path: _read(path) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for tag, attribute, address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if (tag, attribute) in LOADED and parts.scheme != "data":
                    yield f"{path.relative_to(site)} loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path.relative_to(site)} links to {address}, which does not exist"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{path.relative_to(site)} links to {address}, and there is no such heading"


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


if __name__ == "__main__":
    sys.exit(main())

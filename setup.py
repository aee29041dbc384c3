"""Puts into the wheel what a project elsewhere needs of this repository; all else about the package is in pyproject.toml.

The flows of `pipelines/` become the package `darkroom_pipelines`, a name that collides with no folder of a project's. The files
that a project begins with, recipes, params of the studies and pages of the course go into the package as they are here, where
`darkroom.config.package_files` finds them. An editable installation finds them in the repository itself.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FLOWS, FLOWS_NAME = "pipelines", "darkroom_pipelines"
FILES = "darkroom/project/files"
SHIPPED = (
    "dvc.yaml", "params.yaml", "prefect.yaml", "prefect.toml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/plots/*.html",
    "recipes/*.yaml", "backbones/README.md",
    "studies/params.yaml", "docs/case-studies/*.md", "data/*.csv", "data/weights/.gitignore", "models/*/.keep",
)  # fmt: skip


class BuildPackage(build_py):
    """Builds the package, and beside it what it needs of the repository."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for target, source in self._additions().items():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).write_bytes(_content(source))

    def get_source_files(self) -> list[str]:
        """Return what a source distribution needs, the additions included."""
        return [*super().get_source_files(), *(str(source.relative_to(ROOT)) for source in self._additions().values())]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what is built, the additions included."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self._additions())]

    def _additions(self) -> dict[str, Path]:
        """Return the files that are added, by what they become."""
        flows = {f"{self.build_lib}/{FLOWS_NAME}/{path.name}": path for path in sorted((ROOT / FLOWS).glob("*.py"))}
        shipped = [path for pattern in SHIPPED for path in sorted(ROOT.glob(pattern))]
        return flows | {f"{self.build_lib}/{FILES}/{path.relative_to(ROOT).as_posix()}": path for path in shipped}


def _content(source: Path) -> bytes:
    """Return what a file becomes: a module of the flows imports the others under their name in the wheel."""
    if source.parent.name != FLOWS:
        return source.read_bytes()
    return re.sub(rf"\b{FLOWS}(?= import |\.[a-z])", FLOWS_NAME, source.read_text(encoding="utf-8")).encode()


def _suffix() -> str:
    """Return what a commit between two releases adds to the version, as pip replaces no package by one of the same version.

    Before the tag of the version it is a development version of it, later a local one, in the order of their commits. A source
    distribution has no repository: it keeps the suffix that it was built with.
    """
    if not (ROOT / ".git").exists():
        return ""
    text = (ROOT / "src" / "darkroom" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+?)"', text, re.MULTILINE)
    described = _git("describe", "--tags", "--long", "--match", f"v{version[1]}") if version else ""
    if not described:
        count = _git("rev-list", "--count", "HEAD")
        return f".dev{count}" if count else ""
    since = described.split("-")[-2]
    return f"+{since}" if since != "0" else ""


def _git(*arguments: str) -> str:
    """Return what git answers; nothing where it has no answer, or is not there."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


SUFFIX = _suffix()
setup(cmdclass={"build_py": BuildPackage}, **({"options": {"egg_info": {"tag_build": SUFFIX}}} if SUFFIX else {}))

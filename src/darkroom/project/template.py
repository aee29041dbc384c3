"""The files of a new project, made of those of the repository, which are their only source.

Its graph is that of the repository with the installed command, and with the digests of `code.yaml` in the place of source files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import jinja2

import darkroom
from darkroom.config import package_files, stage_code

GRAPH, DEPLOYMENTS, PARAMS, README = "dvc.yaml", "prefect.yaml", "params.yaml", "README.md"
ORIGINALS = "originals"  # a key of code.yaml
FOLLOWED = (  # by a newer Darkroom; others belong to the person
    GRAPH, DEPLOYMENTS, "prefect.toml", ".gitignore", ".dvcignore", "backbones/README.md",
)  # fmt: skip
COPIED = (
    PARAMS, *FOLLOWED[2:], "data/label_fixes.csv", "data/splits.csv", "data/weights/.gitignore", "models/transfer/.keep",
    "models/finetune/.keep",
)  # fmt: skip
OF_DVC = (".dvc/config", ".dvc/plots/offline.html")  # a run asks nobody, and plots load nothing
HEADER = """\
# The code of each stage in the package, by digests, on which the stages depend; `darkroom new` and `darkroom update` write this
# file. `files` has what they wrote of others, so that your changes are known. To be committed, and not to be edited.
"""
_COMMAND = 'PATH=".venv/bin:$PATH" darkroom'  # of the repository, whose command is in its environment
_ENTRYPOINT = re.compile(r"pipelines/(\w+)\.py:(\w+)")
_STUDIES = "    entrypoint: pipelines/study.py"  # its graph stays in the repository; `darkroom study` runs one without it


def files(name: str) -> dict[str, str]:
    """Return the texts of a new project's files by path; `name` is that of its folder."""
    texts = {path: _shipped(path) for path in COPIED}
    texts |= followed()
    texts[README] = _readme(name)
    texts[str(stage_code.FILE)] = code({path: texts[path] for path in FOLLOWED})
    return texts


def dvc_files() -> dict[str, str]:
    """Return the texts of the files that are written once DVC is initialised, by path."""
    return {path: _shipped(path) for path in OF_DVC}


def followed() -> dict[str, str]:
    """Return the texts of the files that follow a newer Darkroom, as this one has them."""
    edited = {GRAPH: graph(_shipped(GRAPH)), DEPLOYMENTS: deployments(_shipped(DEPLOYMENTS))}
    return {path: edited[path] if path in edited else _shipped(path) for path in FOLLOWED}


def params() -> str:
    """Return params.yaml as this Darkroom has it."""
    return _shipped(PARAMS)


def graph(text: str) -> str:
    """Return the graph of a project, made of that of the repository; its comments stay."""
    lines: list[str] = []
    stage = ""
    for line in text.replace(_COMMAND, "darkroom").splitlines():
        if match := re.match(r"  (\w+):", line):
            stage = match[1]
        if line.startswith(f"      - {stage_code.PREFIX}"):
            continue
        if lines and lines[-1] == "    deps:" and not line.startswith("      "):
            lines.pop()  # all were source files
        lines.append(line)
        if line == "    params:":
            lines.append(f"      - {stage_code.FILE}: [{stage_code.STAGES}.{stage}]")
    return "\n".join(lines) + "\n"


def deployments(text: str) -> str:
    """Return the deployments of a project, made of those of the repository: the flows are in a package, and no study is one."""
    blocks = re.split(r"\n\n(?=  - name: )", text.rstrip("\n"))
    kept = [_ENTRYPOINT.sub(rf"{package_files.FLOWS}.\1.\2", block) for block in blocks if _STUDIES not in block]
    return "\n\n".join(kept).replace("make schedule", "darkroom schedule start") + "\n"


def code(followers: Mapping[str, str], merged: Collection[str] = ()) -> str:
    """Return the text of code.yaml of this Darkroom; `followers` has the texts of the files that follow it.

    Of files that are `merged` with a person's changes it has the whole text: no commit has it.
    """
    lines = [f"{stage_code.VERSION}: {darkroom.__version__}", f"{stage_code.STAGES}:"]
    lines += [f"  {stage}: {digest}" for stage, digest in stage_code.digests().items()]
    lines += [f"{stage_code.FILES}:", *(f"  {path}: {file_digest(text)}" for path, text in followers.items())]
    if merged:
        lines += [f"{ORIGINALS}:", *(f"  {path}: {json.dumps(followers[path], ensure_ascii=False)}" for path in merged)]
    return HEADER + "\n".join(lines) + "\n"


def file_digest(text: str) -> str:
    """Return the digest by which a text is known again; white space at its ends does not count, as git's output lacks it."""
    return "sha256-" + hashlib.sha256(text.strip().encode()).hexdigest()[:32]


def _shipped(path: str) -> str:
    return (package_files.root() / path).read_text(encoding="utf-8")


def _readme(name: str) -> str:
    template = (Path(__file__).parent / "README.md.j2").read_text(encoding="utf-8")
    return jinja2.Template(template, keep_trailing_newline=True).render(name=name, version=darkroom.__version__)

"""Carries a project to the installed Darkroom: its graph, deployments and params, and the digests of its stages' code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import darkroom
from darkroom.config import params, stage_code
from darkroom.config.yaml_files import parse_yaml
from darkroom.core import atomic, git
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.project import params_file, template

MERGED = "has the changes of the new version beside yours"


@dataclass(frozen=True)
class Update:
    """What an update will change: texts of files by path, each change in words, and the stages whose code has changed."""

    before: str  # the version that the project is of
    after: str
    texts: dict[str, str]
    changes: list[str]
    stages: list[str]


def plan() -> Update:
    """Return what an update of the project in this folder will change; nothing is written.

    Raises WorkspaceError for a file that the person and Darkroom have both changed so that git cannot merge it, and ParamsError
    where params.yaml cannot be carried over.
    """
    recorded = stage_code.read() if stage_code.FILE.exists() else {}
    carried = params_file.carry(_read(template.PARAMS) or template.params(), template.params())
    params.parse(parse_yaml(carried.text, template.PARAMS), template.PARAMS)
    texts, changes = {template.PARAMS: carried.text}, [f"params.yaml: {change}" for change in carried.changes]
    followed, merged = template.followed(), []
    digests, originals = recorded.get(stage_code.FILES) or {}, recorded.get(template.ORIGINALS) or {}
    for path, text in followed.items():
        texts[path], change = _follow(path, text, digests.get(path, ""), originals.get(path))
        changes += [f"{path}: {change}"] if change else []
        merged += [path] if change == MERGED or (path in originals and texts[path] != text) else []
    texts[str(stage_code.FILE)] = template.code(followed, merged)
    recorded_stages = recorded.get(stage_code.STAGES) or {}
    stages = [stage for stage, digest in stage_code.digests().items() if recorded_stages.get(stage) != digest]
    before = str(recorded.get(stage_code.VERSION, "an unknown version"))
    return Update(
        before, darkroom.__version__, {path: text for path, text in texts.items() if text != _read(path)}, changes, stages
    )


def write(update: Update) -> None:
    """Write the files of an update, the one with the digests last, so that a killed update is repeated."""
    for path, text in update.texts.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(Path(path)) as working:
            working.write_text(text, encoding="utf-8")


def _follow(path: str, text: str, last_digest: str, original: str | None) -> tuple[str, str]:
    """Return the new text of a file, and what was done in words.

    `last_digest` is that of what Darkroom wrote last, `original` the text of it, where it was merged with changes of the person.
    """
    current, new = _read(path), template.file_digest(text)
    if current is None:
        return text, "is written anew"
    if template.file_digest(current) == new or new == last_digest:  # nothing is new; the person's changes stay
        return current, ""
    if template.file_digest(current) == last_digest:
        return text, "is that of the new version"
    contents = (content for content in [original, *git.contents(path)] if content is not None)
    base = next((f"{content.strip()}\n" for content in contents if template.file_digest(content) == last_digest), None)
    merged = git.merge(current, base, text) if base is not None else None
    if merged is None or not _is_readable(path, merged):
        reason = "git cannot merge the two" if base is not None else "no commit has it as it was before yours"
        raise WorkspaceError(
            f"{path} has changes of yours, Darkroom {darkroom.__version__} has changed it too, and {reason}",
            f"`mv {path} {path}.mine`, then `darkroom update`, and make your changes again in the new {path}",
        )
    return merged, MERGED


def _is_readable(path: str, text: str) -> bool:
    """Tell whether a merged file still is what its name says: both may have added the same key."""
    try:
        parse_yaml(text if path.endswith(".yaml") else "", path)
    except ParamsError:
        return False
    return True


def _read(path: str) -> str | None:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else None

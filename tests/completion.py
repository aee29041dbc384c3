"""What the tab key offers."""

from __future__ import annotations

from click.shell_completion import ShellComplete

from darkroom.cli import group


def completions(*words: str) -> list[str]:
    """Return what the last of the words of a command may become."""
    complete = ShellComplete(group, {}, "darkroom", "_DARKROOM_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]

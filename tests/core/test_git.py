"""Merging of a person's changes with those of a newer version."""

from __future__ import annotations

import pytest

from darkroom.core import git

BASE = "stages:\n  a:\n    cmd: a\n"
STAGE, KEY, OTHER = "  b:\n    cmd: b\n", "    desc: mine\n", "  c:\n    cmd: c\n"


@pytest.mark.parametrize(
    ("mine", "theirs", "merged"),
    [
        (BASE.replace("a:", "x:"), BASE + STAGE, BASE.replace("a:", "x:") + STAGE),
        (BASE + OTHER, BASE + STAGE, BASE + STAGE + OTHER),
        (BASE + KEY, BASE + STAGE, BASE + KEY + STAGE),
        (BASE + STAGE, BASE + KEY, BASE + KEY + STAGE),
        (BASE + KEY + OTHER, BASE + "    wdir: .\n" + STAGE, None),
        (BASE.replace("cmd: a", "cmd: mine"), BASE.replace("cmd: a", "cmd: theirs"), None),
        ("a\nb\n" + OTHER, "a\nb\n" + STAGE, None),
    ],
)
def test_what_both_add_in_one_place_is_kept_where_it_cannot_be_misread(mine, theirs, merged):
    """Added lines stay below what they were added to: keys of the stage above come first; where both add such, none are merged."""
    assert git.merge(mine, BASE, theirs) == merged

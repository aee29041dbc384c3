"""Counts with their nouns."""

from __future__ import annotations

import pytest

from darkroom.core.counts import counted


@pytest.mark.parametrize(("count", "text"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (1234, "1,234 classes")])
def test_one_alone_is_singular(count, text):
    """Of all counts one alone has the singular; large numbers have commas."""
    assert counted(count, "class") == text


def test_a_plural_may_be_given():
    """A verb, or a plural that is no added s, is in both forms."""
    assert counted(1, "copy is", "copies are") == "1 copy is"
    assert counted(2, "copy is", "copies are") == "2 copies are"

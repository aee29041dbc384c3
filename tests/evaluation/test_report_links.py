"""Links to the files of images, and lines that correct their labels."""

from __future__ import annotations

import shlex
from urllib.parse import unquote, urljoin

from click.testing import CliRunner

from darkroom.commands import fix
from darkroom.evaluation.report import source_files

ODD = ("cat/it's.jpg", "cat/a b.jpg", "cat/a?b#c%20.jpg", "-x.jpg", "cat/$(rm) `x`;.jpg", "cat/ä.jpg", 'cat/"q".jpg', "a:b.jpg")


def test_a_shell_reads_back_the_path_and_the_label():
    """A line is a command with exactly the path and the label, which `darkroom fix` takes as such."""
    for path in ODD:
        words = shlex.split(source_files.fix_command(path, "old dog"))
        assert words[:2] == ["darkroom", "fix"]
        assert words[-2:] == [path, "old dog"]
        result = CliRunner().invoke(fix.command, words[2:])
        assert "No such option" not in result.output
        assert "Got unexpected" not in result.output


def test_an_address_leads_to_the_file():
    """Resolved from the page and decoded, an address is the path of the file, whatever is in its name."""
    for path in ODD:
        for folder in ("../photos", "../../a b/ph#tos"):
            address = source_files.address(folder, path)
            assert (
                unquote(urljoin("file:///home/me/project/reports/report.html", address))
                == unquote(urljoin("file:///home/me/project/reports/report.html", source_files.address(folder, ""))) + path
            )


def test_without_a_file_there_is_no_link():
    """Images of archives and arrays, and names that cannot be printed, have none; the latter have no line either."""
    assert source_files.address(None, "cat/1.jpg") == ""
    assert source_files.address("../photos", "cat/a\nb.jpg") == ""
    assert source_files.fix_command("cat/a\nb.jpg", "dog") == ""

"""Groups that import their commands lazily, options with several values, and error messages."""

from __future__ import annotations

import errno
import sys
import threading

import click
import pytest
from click.testing import CliRunner

from darkroom.core.command_line import Choice, Command, LazyGroup, Many, report, runnable
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import LazyModule, lazy_imports


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--set", "settings", cls=Many)
@click.option("--kind", type=Choice(["first", "second"]))
def echo(name, settings, kind):
    """Print the values."""
    click.echo(f"{name} {list(settings)} {kind}")


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["x", "--set", "a=1", "b=2"], "x ['a=1', 'b=2'] None"),
        (["--set", "a=1", "b=2", "--kind", "first", "x"], "x ['a=1', 'b=2'] first"),
        (["--set", "a=1", "--set", "b=2"], "None ['a=1', 'b=2'] None"),
        (["x"], "x [] None"),
        (["--set=a=1", "x"], "x ['a=1'] None"),
        (["--set", "a=1", "--", "x"], "x ['a=1'] None"),
    ],
)
def test_an_option_takes_several_values(words, output):
    """The values of a `Many` option follow its name, up to the next option, or repeat the name."""
    assert CliRunner().invoke(echo, words).output.strip() == output


def test_a_misspelt_choice_names_the_nearest():
    """A wrong word for a `Choice` names all of them, and the nearest."""
    result = CliRunner().invoke(echo, ["--kind", "frist"])
    assert result.exit_code == 2
    assert 'did you mean "first"' in result.output


def test_the_help_of_a_command_does_not_depend_on_how_it_was_called_first():
    """Called without its group, a command has `-h` and `--help` too: click keeps the names of the first call."""
    for word in ("--help", "-h"):
        assert "-h, --help" in CliRunner().invoke(echo, [word]).output


def test_a_lazy_module_is_imported_on_first_use():
    """Creating it imports nothing; an attribute does, and sees what a test replaces."""
    sys.modules.pop("colorsys", None)
    module = LazyModule("colorsys")
    assert "colorsys" not in sys.modules
    assert module.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert "colorsys" in sys.modules


def test_lazy_imports_are_of_their_block_and_thread_alone(tmp_path, monkeypatch):
    """Modules named in the block are imported on first use; another thread's imports, and later ones, take place at once."""
    for name in ("one", "two", "other", "later"):
        (tmp_path / f"lazy_{name}.py").write_text(f"VALUE = {name!r}")
    monkeypatch.syspath_prepend(tmp_path)
    with lazy_imports():
        import lazy_one
        import lazy_two as two

        thread = threading.Thread(target=lambda: __import__("lazy_other"))
        thread.start()
        thread.join()
    import lazy_later

    assert {"lazy_other", "lazy_later"} <= set(sys.modules)
    assert not {"lazy_one", "lazy_two"} & set(sys.modules)
    assert (lazy_one.VALUE, two.VALUE, lazy_later.VALUE) == ("one", "two", "later")
    with lazy_imports():
        from json import tool
    assert tool.main


def test_a_group_loads_the_command_that_is_called(tmp_path, monkeypatch):
    """Help needs no import; names with a hyphen are modules with an underscore."""
    package = tmp_path / "lazy_commands"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one_word.py").write_text("import click\n@click.command()\ndef command():\n    click.echo('called')\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = LazyGroup("g", package="lazy_commands", sections={"Some": {"one-word": "first"}, "Others": {"broken": "second"}})
    runner = CliRunner()
    assert [word in runner.invoke(group, []).output for word in ("Some:", "one-word", "first", "Others:", "broken")] == [True] * 5
    assert runner.invoke(group, ["one-word"]).output == "called\n"
    assert "did you mean" in runner.invoke(group, ["one-wrod"]).output


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.csv"), "check the name"),
        (PermissionError(errno.EACCES, "Permission denied", "x.csv"), "permissions"),
        (OSError(errno.ENOSPC, "No space left on device"), "darkroom tidy"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x.csv"), "name a file"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x.csv/y"), "parents are folders"),
        (OSError(errno.EROFS, "Read-only file system", "x.csv"), "read-only"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "shorter"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "port"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "network"),
        (OSError(errno.EIO, "Input/output error"), "--debug"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_the_system_has_a_true_remedy(error, fact, capsys):
    """Each kind of OSError has a remedy of its own: a missing file is not a matter of rights or of free space."""
    report(error)
    text = capsys.readouterr().err
    assert str(error) in text or error.errno == errno.ENOSPC
    assert fact in text.partition("remedy: ")[2]
    assert ("the disk is full" in text) == (error.errno == errno.ENOSPC)


def test_a_usage_error_names_the_help_of_its_command(capsys):
    """The remedy of a wrong option is the help of the command that was called."""
    with pytest.raises(click.NoSuchOption) as caught:
        echo.main(["--knid", "x"], prog_name="darkroom echo", standalone_mode=False)
    assert report(caught.value) == 2
    error = capsys.readouterr().err
    assert '"--kind"' in error
    assert "`darkroom echo --help`" in error


def test_an_error_of_darkroom_is_printed_as_it_is(capsys):
    """Problem and remedy stand on lines of their own, also where the problem has several."""
    assert report(ParamsError("two\n  lines", "mend them")) == 2
    assert capsys.readouterr().err == "error: two\n  lines\n  remedy: mend them\n"


def test_a_remedy_can_be_run_where_dvc_is_not_on_the_path(tmp_path, capsys, monkeypatch):
    """Installed by `uv tool` or pipx, Darkroom is on the PATH and its DVC is not: remedies name commands that are found."""
    error = ParamsError("it is old", "`dvc repro ingest`, or `dvc pull`")
    for name in ("dvc", "darkroom"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    report(error)
    assert "`dvc repro ingest`, or `dvc pull`" in capsys.readouterr().err
    (tmp_path / "dvc").unlink()
    report(error)
    assert f"`darkroom repro ingest`, or `{sys.executable} -m dvc pull`" in capsys.readouterr().err


def test_a_command_can_be_run_where_no_environment_is_activated(tmp_path, monkeypatch):
    """After `make repro` neither `darkroom` nor `dvc` is on the PATH: texts name the command in the environment."""
    for name in ("python", "darkroom"):
        (tmp_path / ".venv/bin" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv/bin" / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert runnable("`darkroom ui`, `dvc repro`") == "`.venv/bin/darkroom ui`, `.venv/bin/darkroom repro`"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runnable("`darkroom ui`") == f"`{tmp_path}/.venv/bin/darkroom ui`"
    (tmp_path / "elsewhere").rmdir()
    assert runnable("`darkroom ui`") == f"`{tmp_path}/.venv/bin/darkroom ui`"

"""The parts of all commands: groups that import a command when it is called, options with several values, messages."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from darkroom.core.errors import MISTAKE, DarkroomError, WorkspaceError, masked, nearest
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import shlex
    import shutil
    import traceback

    from click import shell_completion

    from darkroom.core import machine_limits, os_errors

DEBUG = "DARKROOM_DEBUG"
COMPLETE = "_DARKROOM_COMPLETE"  # set by the scripts of `darkroom completion`
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG] = "1"  # so that the processes that the command starts have it too


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_set_debug,
    help=f"show the traceback of an error; {DEBUG}=1 does the same",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON value instead of text")


class Many(click.Option):
    """An option that takes one value or more after its name, and may be repeated: `--set a=1 b=2 --set c=3`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"multiple": True})


class Choice(click.Choice[str]):
    """One of several words; a misspelt word is answered with the nearest one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        return f'there is no "{value}"{nearest(str(value), self.choices)}; choose from {", ".join(self.choices)}'


class Command(click.Command):
    """A command that also takes `--debug` and `-h`, and whose `Many` options take several values after one name."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        # not those of the group alone: click keeps the names of the help option of a command's first call
        super().__init__(*args, **{"context_settings": SETTINGS} | settings)
        debug_option(self)
        self.params[-1].hidden = True  # type: ignore[attr-defined]  # the help of `darkroom` has it

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        many = {name for option in self.params if isinstance(option, Many) for name in option.opts}
        return super().parse_args(ctx, _repeat(args, many))


def _repeat(args: Sequence[str], many: Iterable[str]) -> list[str]:
    """Return `--set a --set b` for `--set a b`."""
    repeated: list[str] = []
    option = ""
    for before, word in zip(["", *args], args, strict=False):
        if word.startswith("-"):
            option = word if word in many else ""
        elif option and before != option:
            repeated.append(option)
        repeated.append(word)
    return repeated


@click.pass_context
def _show_overview(ctx: click.Context) -> None:
    """Print a group's help where no command is named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class LazyGroup(click.Group):
    """A group that imports a command when it is called.

    `package` holds a module per command, with the click command as `command`; `sections` has the commands' names and
    one-line help by the section's title. Commands in `hidden` are not listed.
    """

    def __init__(
        self, *args: Any, package: str, sections: Mapping[str, Mapping[str, str]], hidden: Iterable[str] = (), **settings: Any
    ) -> None:
        defaults: dict[str, Any] = {"context_settings": SETTINGS, "callback": _show_overview, "invoke_without_command": True}
        super().__init__(*args, **defaults | settings)
        self.package, self.sections, self.hidden_names = package, sections, tuple(hidden)

    @property
    def summaries(self) -> dict[str, str]:
        """Return the one-line help of each command that is listed."""
        return {name: text for section in self.sections.values() for name, text in section.items()}

    def load(self, name: str) -> click.Command:
        """Import a command."""
        command: click.Command = importlib.import_module(f"{self.package}.{name.replace('-', '_')}").command
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.load(cmd_name) if cmd_name in self.summaries or cmd_name in self.hidden_names else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f'there is no command "{name}"{nearest(name, self.summaries)}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, summaries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(list(summaries.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[shell_completion.CompletionItem]:
        names = [
            shell_completion.CompletionItem(name, help=text) for name, text in self.summaries.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def passthrough(run: Callable[[tuple[str, ...]], int | None], help: str = "") -> click.Command:
    """Return a command that hands its words on to a program with options of its own, `--help` included."""
    return click.Command(
        None,
        callback=lambda words: run(words),
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")],
        help=help,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )


def run_command(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command that is a process of its own; mistakes are reported, 2 or 75."""
    try:
        code: int = command.main(arguments, name, standalone_mode=False)
        return code
    except (DarkroomError, click.ClickException) as error:
        return report(error)


def report(error: BaseException) -> int:
    """Print an error with its remedy on stderr, after its traceback where `--debug` is on; return the exit code."""
    if os.environ.get(DEBUG, "") not in ("", "0"):
        click.echo(masked("".join(traceback.format_exception(error))), err=True)
    error = machine_limits.explain(error) or error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        problem, remedy, code = _sentence(error), f"see `{context.command_path if context else 'darkroom'} --help`", MISTAKE
    elif isinstance(error, DarkroomError):
        problem, remedy, code = error.problem, error.remedy, error.code
    else:
        problem, remedy, code = masked(str(error)), os_errors.remedy_of(error), os_errors.exit_code(error)
    label = click.style("error:", fg="red", bold=True) if _is_coloured() else "error:"
    click.echo(f"{label} {problem}\n  remedy: {runnable(remedy)}", err=True)
    return code


def removed_folder() -> WorkspaceError | None:
    """Return the error of a process whose folder has been removed, as that of a worktree may be; None where it is there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return WorkspaceError("the folder that this command runs in is not there any more", "`cd` to the project's folder")
    return None


def runnable(text: str) -> str:
    """Return a text whose commands, in backquotes, are found: `uv tool` and pipx put that of Darkroom alone on the PATH, and
    `make` none, as its environment is not activated."""
    if not shutil.which("dvc"):
        text = text.replace("`dvc repro", "`darkroom repro").replace("`dvc ", f"`{shlex.quote(sys.executable)} -m dvc ")
    program = Path(sys.executable).with_name("darkroom")
    if not shutil.which("darkroom") and program.exists():
        with suppress(OSError, ValueError):  # no folder to run in, or another one
            program = program.relative_to(Path.cwd())
        text = text.replace("`darkroom ", f"`{shlex.quote(str(program))} ")
    return text


def _is_coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _sentence(error: click.ClickException) -> str:
    """Return click's message without its full stop, with the nearest word where an option is unknown."""
    if isinstance(error, click.NoSuchOption):
        options = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
        return f"there is no option {error.option_name}{nearest(error.option_name, options)}"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]

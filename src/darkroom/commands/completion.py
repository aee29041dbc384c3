"""Print the script that completes darkroom's commands, options and values in a shell: `eval "$(darkroom completion bash)"`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from darkroom.core.command_line import COMPLETE, Choice, Command


@click.command(cls=Command)
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes darkroom's commands, options and values in a shell.

    \b
    bash  echo 'eval "$(darkroom completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(darkroom completion zsh)"' >> ~/.zshrc
    fish  darkroom completion fish > ~/.config/fish/completions/darkroom.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "darkroom", COMPLETE).source())

"""``featx completion``."""

import click
from click.shell_completion import get_completion_class

from featx.cli.group import main


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      featx completion bash >> ~/.bashrc
      featx completion fish > ~/.config/fish/completions/featx.fish
    """
    kind = get_completion_class(shell)
    if kind:
        click.echo(kind(main, {}, "featx", "_FEATX_COMPLETE").source())

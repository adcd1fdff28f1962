"""Default options from a TOML file: ``featx --config featx.toml extract photos -o photos.h5``."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

MAX_BYTES = 1_000_000


def read_config(path: Path, commands: Iterable[str], ctx: click.Context) -> dict[str, dict[str, Any]]:
    """Read a configuration file: one table per command.

    Raises
    ------
    click.UsageError
        If the file cannot be read, is not TOML, or has a key that is not the name of a command.
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.loads(file.read(MAX_BYTES).decode())
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--config {path} cannot be read: {error}", ctx) from None
    names = set(commands)
    for name, table in tables.items():
        if name not in names or not isinstance(table, dict):
            raise click.UsageError(
                f"--config {path} must have one table per command, such as [extract], got {name!r}", ctx
            )
    return tables


def settings_of(command: click.Command, name: str, table: Mapping[str, Any], ctx: click.Context) -> dict[str, Any]:
    """Translate the options of one table to the names of the command's parameters.

    An option is spelled as on the command line, without the leading dashes: ``n-views`` or ``n_views``. A switch with
    two names (``--amp/--no-amp``) takes ``true`` or ``false``. A nested table sets the options of a subcommand.

    Raises
    ------
    click.UsageError
        If the command has no such option.
    """
    known = {
        spelling.lstrip("-").replace("-", "_"): param
        for param in command.params
        if isinstance(param, click.Option)
        for spelling in param.opts
        if spelling.startswith("--")
    }
    settings: dict[str, Any] = {}
    for option, value in table.items():
        subcommand = command.commands.get(option) if isinstance(command, click.Group) else None
        param = known.get(option.replace("-", "_"))
        if subcommand:
            settings[option] = settings_of(subcommand, f"{name} {option}", value, ctx)
        elif param and param.name:
            # A list in TOML stands for values that are separated by commas on the command line: blocks = [3, 4, 5].
            joined = isinstance(value, list) and not param.multiple
            settings[param.name] = ",".join(map(str, value)) if joined else _switched(param, value)
        else:
            raise click.UsageError(
                f"the configuration of {name} has the option {option!r}, which {name} does not have; "
                f"see featx {name} --help",
                ctx,
            )
    return settings


def _switched(param: click.Option, value: Any) -> Any:
    """Return the value that the parameter of a switch gets from ``true``, as in ``no-time = true``."""
    explicit = param.is_flag and isinstance(param.flag_value, bool | str)
    return param.flag_value if explicit and value is True else value

"""``featx info``."""

import click

from featx.commands.options import echo_json, json_option, printable

INDENT = "  "


@click.command()
@click.argument("file", type=click.Path())
@json_option
def command(file: str, as_json: bool) -> None:
    """Say what FILE, a store or a model, holds: spec, rows, classes, failures, sizes.

    \b
    Examples:
      featx info photos.h5
      featx info photos.featx --json
    """
    from featx.info import describe

    facts = describe(file)
    if as_json:
        echo_json(facts)
    else:
        click.echo("\n".join(_lines(facts)))


def _lines(facts: dict[str, object], indent: str = "") -> list[str]:
    """Facts as ``name: value`` lines, what is inside a fact indented below it."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{printable(name)}:", *_lines(value, indent + INDENT)]
        elif isinstance(value, list) and any(isinstance(item, str) and " " in item for item in value):
            lines += [f"{indent}{name}:", *(f"{indent}{INDENT}{printable(item)}" for item in value)]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines.append(f"{indent}{printable(name)}: {printable(text) or 'none'}")
    return lines

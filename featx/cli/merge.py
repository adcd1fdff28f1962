"""``featx merge``."""

import dataclasses
from typing import Any

import click

from featx.cli.options import echo_json, json_option
from featx.runtime import pluralize

DUPLICATES = ("error", "first", "last")


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The store to write.")
@click.option("--duplicates", type=click.Choice(DUPLICATES), default="error", show_default=True,
              help="What to do with a path of several stores whose bytes, labels or splits differ.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what the output holds.")
@json_option
def command(stores: tuple[str, ...], output: str, as_json: bool, **options: Any) -> None:
    """Write the images of several STORES of one spec as one store.

    First come the images of the first store, then what each next one adds. An image that several stores have alike is
    one image.

    \b
    Examples:
      featx merge monday.h5 tuesday.h5 -o week.h5
    """
    from featx.curation import merge

    done = merge(stores, output, **options)
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        click.echo(f"{done.store}: {pluralize(done.images, 'image')}; {done.duplicates:,} were in several stores")

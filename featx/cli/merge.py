"""``featx merge``."""

import dataclasses

import click

from featx.cli.options import echo_json, json_option, overwrite_option
from featx.runtime import pluralize

DUPLICATES = ("error", "first", "last")


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Store to write.")  # fmt: skip
@click.option("--duplicates", type=click.Choice(DUPLICATES), default="error", show_default=True,
              help="Which store to use if stores have different bytes, labels or splits for one path.")  # fmt: skip
@overwrite_option
@json_option
def command(stores: tuple[str, ...], output: str, duplicates: str, overwrite: bool, as_json: bool) -> None:
    """Join several STORES with the same spec into one.

    The output has the images of the first store, followed by the new images of each further store. An image that is
    equal in several stores is written once.

    \b
    Examples:
      featx merge monday.h5 tuesday.h5 -o week.h5
    """
    from featx.curation import merge

    done = merge(stores, output, duplicates=duplicates, overwrite=overwrite)
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        click.echo(f"{done.store}: {pluralize(done.images, 'image')}; {done.duplicates:,} were in several stores")

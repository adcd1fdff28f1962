"""``featx select``."""

import dataclasses
from typing import Any

import click

from featx.cli.options import echo_json, json_option
from featx.runtime import pluralize


@click.command()
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The store to write.")
@click.option("--where", metavar="QUERY", help="label == 'rose' and split != 'test'")
@click.option("--path-glob", metavar="GLOB", help="Only images whose whole path matches a shell pattern")
@click.option("--overwrite", is_flag=True, help="Replace what the output holds.")
@json_option
def command(store: str, output: str, as_json: bool, **options: Any) -> None:
    """Write some images of STORE, with all their views, as a store of its own.

    A query compares path, label and the split and weight columns with texts and numbers: ==, !=, <, in, and, or, not.
    'x' in path asks for a part of the path. Nothing of a query is ever run as code.

    \b
    Examples:
      featx select photos.h5 -o roses.h5 --where "label in ('rose', 'tulip') and split == 'train'"
      featx select photos.h5 -o heavy.h5 --where "weight > 0.5 and '2024/' in path"
    """
    from featx.curation import select

    done = select(store, output, **options)
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        click.echo(f"{done.store}: {done.images:,} of {pluralize(done.source_images, 'image')}")

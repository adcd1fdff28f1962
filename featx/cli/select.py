"""``featx select``."""

import dataclasses

import click

from featx.cli.options import echo_json, json_option, overwrite_option
from featx.runtime import pluralize


@click.command()
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Store to write.")  # fmt: skip
@click.option("--where", metavar="QUERY",
              help="Condition, such as: label == 'rose' and split != 'test'")  # fmt: skip
@click.option("--path-glob", metavar="GLOB",
              help="Only images whose full path matches this shell pattern.")  # fmt: skip
@overwrite_option
@json_option
def command(store: str, output: str, where: str | None, path_glob: str | None, overwrite: bool, as_json: bool) -> None:
    """Write some images of STORE, with their augmented copies, as a new store.

    The condition of --where compares path, label, split columns and weight columns with strings and numbers. It may use
    ==, !=, <, in, and, or, not. The condition 'x' in path is true if the path contains x. A condition is never run as
    code.

    \b
    Examples:
      featx select photos.h5 -o roses.h5 --where "label in ('rose', 'tulip') and split == 'train'"
      featx select photos.h5 -o heavy.h5 --where "weight > 0.5 and '2024/' in path"
    """
    from featx.curation import select

    done = select(store, output, where=where, path_glob=path_glob, overwrite=overwrite)
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        click.echo(f"{done.store}: {done.images:,} of {pluralize(done.source_images, 'image')}")

"""``featx assemble``."""

import click

from featx.cli.extracted import tell
from featx.cli.options import json_option, quiet_option


@click.command()
@click.argument("store", type=click.Path(dir_okay=False))
@click.option("--partial", is_flag=True, help="Leave out the images of shards that are not done.")
@quiet_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, store: str, partial: bool, quiet: bool, as_json: bool) -> None:
    """Make the STORE whose parts were written by featx extract --shard.

    If shards are not done, it says which. What --partial leaves out, featx extract adds at any time.

    \b
    Examples:
      featx assemble /shared/photos.h5
      featx assemble /shared/photos.h5 --partial
    """
    from featx.extraction import assemble_shards

    tell(ctx, assemble_shards(store, partial=partial), quiet=quiet, as_json=as_json)

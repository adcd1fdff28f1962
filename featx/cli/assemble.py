"""``featx assemble``."""

import click

from featx.cli.extracted import print_report
from featx.cli.options import json_option, quiet_option


@click.command()
@click.argument("store", type=click.Path(dir_okay=False))
@click.option("--partial", is_flag=True, help="Leave out the images of unfinished shards.")
@quiet_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, store: str, partial: bool, quiet: bool, as_json: bool) -> None:
    """Join the parts that featx extract --shard wrote into STORE.

    If a shard is unfinished, the command stops and lists the unfinished shards. With --partial it leaves their images
    out, and featx extract can add them later.

    \b
    Examples:
      featx assemble /shared/photos.h5
      featx assemble /shared/photos.h5 --partial
    """
    from featx.extraction import assemble_shards

    print_report(ctx, assemble_shards(store, partial=partial), quiet=quiet, as_json=as_json)

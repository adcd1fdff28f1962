"""``featx search``."""

import dataclasses
from typing import Any

import click

from featx.cli.options import (
    RUN,
    WITH_FAILURES,
    Blocks,
    Pools,
    compute_options,
    echo_json,
    json_option,
    printable,
    root_option,
    weights_option,
)
from featx.runtime import Compute


@click.command()
@click.argument("store", type=click.Path())
@click.argument("images", type=click.Path())
@root_option
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="K",
              help="Number of images to print, nearest first.")  # fmt: skip
@click.option("--blocks", type=Blocks(), help="Blocks to compare (default: the last two of the store).")
@click.option("--pools", type=Pools(), help="Poolings to compare (default: all of the store).")
@weights_option
@compute_options(*RUN)
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, images: str, root: str | None, top: int, blocks: tuple[int, ...] | None,
    pools: tuple[str, ...] | None, weights: str | None, compute: Compute, as_json: bool,
) -> None:  # fmt: skip
    """Find the images of STORE that are nearest to IMAGES: one file, or any source that extract takes.

    Every image of the store is compared. The similarity is the cosine of power-normalized features, averaged over the
    blocks; 1 means equal.

    \b
    Examples:
      featx search photos.h5 new.jpg
      featx search photos.h5 new/ --top 1 --json
    """
    from featx.curation import nearest

    found, failures = {}, []
    for path, matches in nearest(
        store, images, compute, root=root, top=top, blocks=blocks, pools=pools, weights=weights
    ):
        if isinstance(matches, str):
            failures.append((path, matches))
            click.echo(f"warning: {printable(path)}: {matches}", err=True)
            continue
        found[path] = [dataclasses.asdict(match) for match in matches]
        if not as_json:
            click.echo("\n".join([printable(path), *map(_line, matches)]))
    if as_json:
        echo_json({"matches": found, "failures": failures})
    if failures:
        ctx.exit(WITH_FAILURES)


def _line(match: Any) -> str:
    return f"  {match.similarity:.4f}  {printable(match.path)}  {printable(', '.join(match.labels))}".rstrip()

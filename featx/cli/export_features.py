"""``featx export-features``."""

import dataclasses
from typing import Any

import click

from featx.cli.options import Blocks, Pools, check_output, echo_json, json_option
from featx.runtime import pluralize

FORMATS = ("parquet", "npy", "csv")


@click.command("export-features")
@click.argument("store", type=click.Path())
@click.option("--format", type=click.Choice(FORMATS), help="Format (default: what the output's suffix says).")
@click.option("-o", "--output", type=click.Path(dir_okay=False),
              help="File to write (default: the store's name with the format's suffix).")  # fmt: skip
@click.option("--blocks", type=Blocks(), help="Blocks to write: 3-5 or 1,4 (default: all).")
@click.option("--pools", type=Pools(), help="Pools to write (default: all).")
@click.option("--split", help="Only rows of this split: train.")
@click.option("--split-column", default="split", show_default=True, help="Which split column --split means.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, output: str | None, format: str | None, as_json: bool, **options: Any
) -> None:
    """Write the features of STORE as a file that other programs read, with path, label and splits of each row.

    parquet has a column a feature, for DuckDB, Polars and pandas; npy is one array that numpy maps, for FAISS, with a
    CSV of its rows beside it. Values are the store's, to the bit.

    \b
    Examples:
      featx export-features photos.h5 --format parquet
      featx export-features photos.h5 --format npy -o block5.npy --blocks 5 --split train
    """
    from featx.curation import export_features

    check_output(ctx, output, store)
    done = export_features(store, output, format, **options)
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        sizes = (pluralize(done.rows, "row"), pluralize(done.columns, "column"), pluralize(done.bytes, "byte"))
        click.echo(f"{' and '.join(done.files)}: {', '.join(sizes)}")

"""``featx export-features``."""

import dataclasses

import click

from featx.cli.options import Blocks, Pools, check_output, echo_json, json_option, overwrite_option
from featx.runtime import pluralize

FORMATS = ("parquet", "npy", "csv")


@click.command("export-features")
@click.argument("store", type=click.Path())
@click.option("--format", type=click.Choice(FORMATS), help="Format (default: by the suffix of the output).")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE",
              help="File to write (default: the name of the store with the suffix of the format).")  # fmt: skip
@click.option("--blocks", type=Blocks(), help="Blocks to write: 3-5 or 1,4 (default: all).")
@click.option("--pools", type=Pools(), help="Poolings to write (default: all).")
@click.option("--split", metavar="VALUE", help="Write only the rows of this split, such as train.")
@click.option("--split-column", default="split", show_default=True, metavar="NAME", help="Split column of --split.")
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, output: str | None, format: str | None, blocks: tuple[int, ...] | None,
    pools: tuple[str, ...] | None, split: str | None, split_column: str, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the features of STORE, with path, label and splits of each row, as a file for other programs.

    parquet has one column per feature, for DuckDB, Polars and pandas. npy is one array that numpy can map, for FAISS. A
    CSV file beside it describes the rows. The values are exactly the same as in the store.

    \b
    Examples:
      featx export-features photos.h5 --format parquet
      featx export-features photos.h5 --format npy -o block5.npy --blocks 5 --split train
    """
    from featx.curation import export_features

    check_output(ctx, output, store)
    done = export_features(store, output, format, blocks=blocks, pools=pools, split=split, split_column=split_column,
                           overwrite=overwrite)  # fmt: skip
    if as_json:
        echo_json(dataclasses.asdict(done))
    else:
        sizes = (pluralize(done.rows, "row"), pluralize(done.columns, "column"), pluralize(done.bytes, "byte"))
        click.echo(f"{' and '.join(done.files)}: {', '.join(sizes)}")

"""``featx report``."""

import dataclasses
from pathlib import Path

import click

from featx.cli.options import (
    check_output,
    compute_options,
    device_option,
    echo_json,
    engine_option,
    json_option,
    printable,
    quiet_option,
    split_column_option,
)
from featx.runtime import Compute, pluralize

SUFFIXES = (".html", ".htm")


@click.command()
@click.argument("path", metavar="MODEL_OR_STORE", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Page to write, such as report.html.")  # fmt: skip
@click.option("--store", type=click.Path(), metavar="FILE",
              help="Store of the model (default: searched beside the model and in the current folder).")  # fmt: skip
@click.option("--root", type=click.Path(exists=True, file_okay=False), metavar="FOLDER",
              help="Folder of the images. Without it, the page shows no images.")  # fmt: skip
@click.option("--finetune", multiple=True, type=click.Path(exists=True, file_okay=False), metavar="FOLDER",
              help="Folder of a fine-tuning log (default: MODEL.finetune). The option may be repeated.")  # fmt: skip
@split_column_option
@compute_options(engine_option, device_option)
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, path: str, output: str, store: str | None, root: str | None, finetune: tuple[str, ...],
    split_column: str | None, compute: Compute, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write everything known about MODEL_OR_STORE as one HTML page.

    The page shows the extraction, the accuracy with its interval, the depths, advice, the confusion matrix with its
    images, the reliability of probabilities, the most confident mistakes, suspects, and a map of the images. It works
    offline.

    \b
    Examples:
      featx report photos.featx -o report.html --root photos
      featx report photos.h5 -o report.html --root photos
      featx report tuned.featx -o report.html --store tuned.h5 --finetune tuned.featx.finetune
    """
    from featx.inspection import report

    if Path(output).suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--output of report must end in {' or '.join(SUFFIXES)}, got {output!r}", ctx)
    check_output(ctx, output, path, store)
    written = report(path, output, compute, store=store, root=root, finetune=finetune, split_column=split_column)
    if as_json:
        echo_json(dataclasses.asdict(written))
    elif not quiet:
        parts = (pluralize(len(written.sections), "section"), pluralize(written.images, "image"))
        click.echo(f"{printable(written.path)}: {', '.join(parts)}, {written.bytes / 1e6:.1f} MB")
        for name, reason in written.missing.items():
            click.echo(f"left out: {name}: {printable(reason)}")

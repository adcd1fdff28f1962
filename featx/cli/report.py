"""``featx report``."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from featx.cli.options import check_output, echo_json, engine_options, json_option, printable, quiet_option
from featx.runtime import pluralize

SUFFIXES = (".html", ".htm")


@click.command()
@click.argument("run", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The page to write, report.html.")
@click.option("--store", type=click.Path(), help="The model's store (default: beside it or here, known by its images).")
@click.option("--root", type=click.Path(exists=True, file_okay=False), help="Folder of the images, to show them.")
@click.option("--finetune", multiple=True, type=click.Path(exists=True, file_okay=False), metavar="FOLDER",
              help="Folder of a fine-tuning's log; may be given again (default: MODEL.finetune).")  # fmt: skip
@click.option("--split-column", "column", metavar="NAME", help="Of a store alone: whose training rows are looked at.")
@engine_options
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, run: str, output: str, store: str | None, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Write all that is known of RUN, a model or a store, as one page.

    What was extracted, accuracy with intervals, depth, advice, what is confused with which images, how far
    probabilities can be trusted, what deserves a look, a map of the features. It opens from disk and loads nothing.

    \b
    Examples:
      featx report photos.featx -o report.html --root photos
      featx report photos.h5 -o report.html --root photos
      featx report tuned.featx -o report.html --store tuned.h5 --finetune tuned.featx.finetune
    """
    from featx.inspection import report
    from featx.runtime import Compute

    if Path(output).suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--output of report must end in {' or '.join(SUFFIXES)}, got {output!r}", ctx)
    check_output(ctx, output, run, store)
    compute = Compute(engine=options.pop("engine"), device=options.pop("device"), progress=not quiet)
    written = report(run, output, compute, store=store, split_column=options.pop("column"), **options)
    if as_json:
        echo_json(dataclasses.asdict(written))
    elif not quiet:
        parts = (pluralize(len(written.sections), "section"), pluralize(written.images, "image"))
        click.echo(f"{printable(written.path)}: {', '.join(parts)}, {written.bytes / 1e6:.1f} MB")
        for name, reason in written.missing.items():
            click.echo(f"not in it: {name}: {printable(reason)}")

"""``featx predict``."""

import csv
import itertools
import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import click

from featx.cli.options import (
    OF_VIEWS,
    WITH_FAILURES,
    check_output,
    device_options,
    quiet_option,
    refuse_given,
    view_options,
)
from featx.runtime import Compute, pluralize
from featx.spec import DEFAULT_TTA

HEADER = ("path", "class", "probability", "decision", "reason")


@click.command()
@click.argument("model", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write (default: standard output).")
@click.option("--root", type=click.Path(file_okay=False),
              help="Folder that a manifest's paths are relative to (default: its own).")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("csv", "jsonl")), default="csv", show_default=True)
@click.option("--top", type=click.IntRange(min=1), metavar="K",
              help="Classes an image, best first (default: 1, or all above 0 where images have several).")  # fmt: skip
@click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
              help="Average over the plain picture and K - 1 augmented views of it.")  # fmt: skip
@view_options(None, DEFAULT_TTA)
@click.option("--weights", type=click.Path(), help="A weights file to take instead of the known sources.")
@device_options
@quiet_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, images: tuple[str, ...], output: str | None, form: str, quiet: bool,
    engine: str, device: str, batch_size: int | None, workers: int | None, max_pixels: int | None, **options: Any,
) -> None:  # fmt: skip
    """Classify IMAGES (files, folders, manifests or stores) by MODEL.

    The CSV has the columns path, class, probability, decision, reason; with --top K, K rows an image. A bad image
    gets a row with its reason, and the exit code is 3. A model of several labels an image gives a row a label, or one
    without a class.

    \b
    Examples:
      featx predict photos.featx new/ -o predictions.csv
      featx predict photos.featx one.jpg --top 5 --format jsonl
      featx predict photos.featx new/ --n-views 2 --augment flip
    """
    from featx.errors import DataError
    from featx.files import wrap_os_error
    from featx.models import load_model, predict

    if options["n_views"] == 1:
        refuse_given(ctx, OF_VIEWS, "--n-views of 2 or more")
    check_output(ctx, output, model, options["weights"], *images)
    compute = Compute(engine, device, batch_size, workers, max_pixels, progress=not quiet)
    predictions = iter(predict(load_model(model), images, compute, **options))
    # The first is made before anything is written: most of what can be wrong shows there.
    predictions = itertools.chain(list(itertools.islice(predictions, 1)), predictions)
    # A reader of standard output that goes away is no error of ours: click ends the command quietly.
    named = wrap_os_error(Path(output), DataError) if output else nullcontext()
    # Names of files that are not UTF-8 go out as the bytes they are.
    with named, click.open_file(output or "-", "w", encoding="utf-8", errors="surrogateescape") as file:
        written, failed = (_write_csv if form == "csv" else _write_jsonl)(predictions, file)
    if output and not quiet:
        click.echo(f"{output}: {pluralize(written, 'image')}")
    if failed:
        click.echo(f"warning: {pluralize(failed, 'image')} could not be read; see the reason in the output", err=True)
        ctx.exit(WITH_FAILURES)


def _write_csv(predictions: Iterable[Any], file: IO[str]) -> tuple[int, int]:
    """How many images were written, and how many of them failed."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    written = failed = 0
    for found in predictions:
        written, failed = written + 1, failed + bool(found.reason)
        if not found.classes:
            writer.writerow((found.path, "", "", "", found.reason))
        probabilities = found.probabilities or ("",) * len(found.classes)
        for row in zip(found.classes, probabilities, found.decisions, strict=True):
            writer.writerow((found.path, *row, ""))
    return written, failed


def _write_jsonl(predictions: Iterable[Any], file: IO[str]) -> tuple[int, int]:
    """As `_write_csv`."""
    written = failed = 0
    for found in predictions:
        written, failed = written + 1, failed + bool(found.reason)
        line = {name: value for name, value in vars(found).items() if value not in ((), "", None)}
        file.write(json.dumps(line) + "\n")
    return written, failed

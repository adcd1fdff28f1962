"""``featx predict``."""

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import click

from featx.cli.options import (
    AUGMENTATION,
    RUN,
    WITH_FAILURES,
    augmentation_options,
    check_output,
    compute_options,
    printable,
    quiet_option,
    refuse_given,
    root_option,
    weights_option,
)
from featx.runtime import Compute, pluralize
from featx.spec import DEFAULT_PREDICT_AUGMENT

HEADER = ("path", "class", "probability", "decision", "reason")


@click.command()
@click.argument("model", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE",
              help="File to write (default: standard output).")  # fmt: skip
@root_option
@click.option("--format", type=click.Choice(("csv", "jsonl")), default="csv", show_default=True,
              help="CSV, or one JSON object per line.")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), metavar="K",
              help="Classes per image, best first (default: 1; for a multi-label model: all "
                   "with a decision above 0).")  # fmt: skip
@click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Average over the plain image and N - 1 augmented copies (test-time augmentation).")  # fmt: skip
@augmentation_options(None, DEFAULT_PREDICT_AUGMENT)
@weights_option
@compute_options(*RUN)
@quiet_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, images: tuple[str, ...], output: str | None, root: str | None, format: str,
    top: int | None, n_views: int, augment: str | None, fill: str, view_seed: int, weights: str | None,
    compute: Compute, quiet: bool,
) -> None:  # fmt: skip
    """Classify IMAGES (files, folders, manifests or stores) with MODEL.

    The CSV has the columns path, class, probability, decision and reason. It has one row per image, or K rows with
    --top K. With a multi-label model it has one row per label of an image, and one row without a class for an image
    without labels. An unreadable image gets a row with the reason, and the exit code is 3.

    \b
    Examples:
      featx predict photos.featx new/ -o predictions.csv
      featx predict photos.featx one.jpg --top 5 --format jsonl
      featx predict photos.featx new/ --n-views 2 --augment flip
    """
    from featx.errors import DataError
    from featx.files import wrap_os_error
    from featx.images import describe_remarks, list_images
    from featx.models import load_model, predict
    from featx.store import is_store

    if n_views == 1:
        refuse_given(ctx, AUGMENTATION, "--n-views of 2 or more")
    check_output(ctx, output, model, weights, *images)
    loaded = load_model(model)
    sources = [image if is_store(image) else list_images(image, root, labeled=False) for image in images]
    for name, source in zip(images, sources, strict=True):
        for note in getattr(source, "notes", ()):
            click.echo(f"{printable(name)}: {printable(str(note))}", err=True)
    predictions = predict(loaded, sources, compute, top=top, n_views=n_views, augment=augment,
                          fill=fill, view_seed=view_seed, weights=weights)  # fmt: skip
    # The first prediction is made before the file is opened, because most errors appear there.
    first = list(itertools.islice(predictions, 1))
    remarks = Counter[str]()
    rows = _count_remarks(itertools.chain(first, predictions), remarks)
    named = wrap_os_error(Path(output), DataError) if output else nullcontext()
    # With surrogateescape, file names that are not UTF-8 are written as their original bytes.
    with named, click.open_file(output or "-", "w", encoding="utf-8", errors="surrogateescape") as file:
        written, failed = (_write_csv if format == "csv" else _write_jsonl)(rows, file)
    if output and not quiet:
        click.echo(f"{output}: {pluralize(written, 'image')}")
    for line in describe_remarks(remarks, remedies=False):
        click.echo(f"warning: {line}", err=True)
    if failed:
        click.echo(f"warning: {pluralize(failed, 'image')} could not be read; see the reason in the output", err=True)
        ctx.exit(WITH_FAILURES)


def _count_remarks(predictions: Iterable[Any], counts: "Counter[str]") -> Iterator[Any]:
    """Yield the predictions, and count their remarks."""
    for found in predictions:
        counts.update(found.remarks)
        yield found


def _write_csv(predictions: Iterable[Any], file: IO[str]) -> tuple[int, int]:
    """Write a CSV file. Return the number of images and the number of failed images."""
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
    """Write JSON lines. Return the number of images and the number of failed images."""
    written = failed = 0
    for found in predictions:
        written, failed = written + 1, failed + bool(found.reason)
        line = {name: value for name, value in vars(found).items() if value not in ((), "", None)}
        file.write(json.dumps(line) + "\n")
    return written, failed

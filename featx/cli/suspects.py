"""``featx suspects``."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from featx.cli.options import check_output, echo_json, folds_option, json_option, printable, seed_option

if TYPE_CHECKING:
    from featx.inspection import Suspects

SHEET = "--sheet of suspects"


@click.command()
@click.argument("store", type=click.Path())
@click.option("--split-column", metavar="NAME",
              help="Report near-duplicates with different values in this split column (default: in any).")  # fmt: skip
@folds_option
@seed_option("the folds")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N",
              help="Show the first N findings of each kind; --json has all.")  # fmt: skip
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Also write a sheet of thumbnails, such as suspects.png.",
)
@click.option("--root", type=click.Path(file_okay=False), default=".", show_default=True, metavar="FOLDER",
              help="Folder that the paths of the store are relative to, for --sheet.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, split_column: str | None, folds: int, seed: int, limit: int, sheet: str | None,
    root: str, as_json: bool,
) -> None:  # fmt: skip
    """Find wrong labels, duplicates and outliers among the images of STORE.

    The command reports improbable labels, according to heads that were fitted without the image; near-duplicates, which
    are copies of an image (re-encoded, resized, cropped or mirrored) and other shots of one scene; classes that are
    confused; images that differ from all others; and images that could not be read.

    \b
    Examples:
      featx suspects photos.h5
      featx suspects photos.h5 --sheet suspects.png --root photos
    """
    from featx.drawing import image_format, save_image
    from featx.inspection import draw_suspects, suspects

    if sheet:
        image_format(sheet, SHEET)
        check_output(ctx, sheet, store)
    found = suspects(store, split_column=split_column, folds=folds, random_state=seed)
    if sheet and not (found.mislabeled or found.near_duplicates or found.outliers):
        click.echo(f"{sheet} not written: there is nothing to draw", err=True)
    elif sheet:
        save_image(draw_suspects(found, root, limit), sheet, SHEET)
    if as_json:
        echo_json({**dataclasses.asdict(found), "pairs_across_splits": found.pairs_across_splits})
        return
    for title, lines in _tables(found).items():
        _show(title, lines, limit)
    for note in found.notes:
        click.echo(note, err=True)


def _tables(found: "Suspects") -> dict[str, list[str]]:
    """Return the tables by title, with one line per finding."""
    across = ", ".join(f"{count} across {column}" for column, count in found.pairs_across_splits.items())
    return {
        "probably mislabeled": [
            f"{item.quality:.4f} {item.label}, more likely {item.suggested} ({item.probability:.2f}): {item.path}"
            for item in found.mislabeled
        ],
        f"near-duplicates{across and f' ({across})'}": [
            f"{item.cosine:.4f} {item.first} {item.second}{' with different labels' * item.labels_differ}"
            for item in found.near_duplicates
        ],
        "confused": [f"{item.count:>6} {item.label} predicted as {item.predicted}" for item in found.confused],
        "outliers": [f"{item.score:>6.1f} {item.path}" for item in found.outliers],
        "failed": [f"{item.path}: {item.reason}" for item in found.failed],
    }


def _show(title: str, lines: Iterable[str], limit: int) -> None:
    lines = list(lines)
    click.echo(f"{title}: {len(lines) or 'nothing found'}")
    for line in lines[:limit]:
        click.echo(f"  {printable(line)}")
    if len(lines) > limit:
        click.echo(f"  and {len(lines) - limit} more")

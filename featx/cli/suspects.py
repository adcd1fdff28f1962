"""``featx suspects``."""

from collections.abc import Iterable
from typing import Any

import click

from featx.cli.options import check_output, echo_json, json_option, printable, seed_option

SHEET = "--sheet of suspects"


@click.command()
@click.argument("store", type=click.Path())
@click.option("--split-column", metavar="NAME",
              help="Look for near-duplicates across this one (default: across every split column).")  # fmt: skip
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@seed_option("Of the folds.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N",
              help="Show the first N of each kind; --json has all.")  # fmt: skip
@click.option("--sheet", type=click.Path(dir_okay=False), help="Also draw them, as thumbnails: suspects.png.")
@click.option("--root", type=click.Path(file_okay=False), default=".", show_default=True,
              help="Folder that the store's paths are relative to, for --sheet.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, limit: int, sheet: str | None, root: str, as_json: bool, **options: Any
) -> None:
    """Find images of STORE that deserve a look.

    Labels that heads fitted without the image find improbable, photographs that are there twice (re-encoded, resized,
    cropped or mirrored), above all across training and test, classes that are confused, images unlike all others, and
    images that could not be read.

    \b
    Examples:
      featx suspects photos.h5
      featx suspects photos.h5 --sheet suspects.png --root photos
    """
    import dataclasses

    from featx.drawing import image_format, save_image
    from featx.inspection import draw_suspects, suspects

    if sheet:  # before what takes long
        image_format(sheet, SHEET)
        check_output(ctx, sheet, store)
    found = suspects(store, random_state=options.pop("seed"), **options)
    if sheet and not (found.mislabeled or found.near_duplicates or found.outliers):
        click.echo(f"{sheet} not written: there is nothing to draw", err=True)
    elif sheet:
        save_image(draw_suspects(found, root, limit), sheet, SHEET)
    if as_json:
        echo_json({**dataclasses.asdict(found), "straddling": found.straddling})
        return
    for title, lines in _tables(found).items():
        _show(title, lines, limit)
    for note in found.notes:
        click.echo(note, err=True)


def _tables(found: Any) -> dict[str, list[str]]:
    """Lines by title, a line a finding."""
    across = ", ".join(f"{count} across {column}" for column, count in found.straddling.items())
    return {
        "probably mislabeled": [
            f"{item.quality:.4f} {item.label}, more likely {item.suggested} ({item.probability:.2f}): {item.path}"
            for item in found.mislabeled
        ],
        f"near-duplicates{across and f' ({across})'}": [
            f"{item.cosine:.4f} {item.first} {item.second}{' of different labels' * item.conflict}"
            for item in found.near_duplicates
        ],
        "confused": [f"{item.count:>6} {item.label} taken for {item.taken_for}" for item in found.confused],
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

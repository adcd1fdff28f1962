"""``featx views``."""

import dataclasses
from typing import Any

import click

from featx.backbones import MIN_SIZE
from featx.cli.options import check_output, echo_json, json_option, max_pixels_option, quiet_option, view_options
from featx.spec import DEFAULT, RESIZES, ExtractSpec


@click.command()
@click.argument("image", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The picture to write, sheet.png.")
@click.option("--n-views", type=click.IntRange(min=2), default=12, show_default=True, metavar="N",
              help="The plain view and N - 1 augmented ones.")  # fmt: skip
@view_options(DEFAULT, DEFAULT)
@click.option("--size", type=click.IntRange(min=MIN_SIZE), default=224, show_default=True, help="Side of a view.")
@click.option("--resize", type=click.Choice(RESIZES), default="squash", show_default=True, help="How to get there.")
@max_pixels_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, image: str, output: str, quiet: bool, as_json: bool, max_pixels: int | None, **options: Any
) -> None:
    """Draw what an augmentation makes of IMAGE, as a contact sheet; the first view is the plain one.

    It draws the views that featx extract makes with the same options.

    \b
    Examples:
      featx views one.jpg -o sheet.png
      featx views one.jpg -o sheet.png --n-views 6 --augment rotate=30 --fill edge
    """
    from featx.images import MAX_PIXELS
    from featx.inspection import draw_sheet

    check_output(ctx, output, image)
    sheet = draw_sheet(image, ExtractSpec(**options), max_pixels or MAX_PIXELS)
    sheet.save(output)
    if as_json:
        echo_json({"sheet": output, "views": [dataclasses.asdict(view) for view in sheet.views]})
    elif not quiet:
        click.echo("\n".join(f"{index}: {view}" for index, view in enumerate(sheet.views)))

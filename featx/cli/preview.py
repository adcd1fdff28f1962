"""``featx preview``."""

import dataclasses
from typing import Any

import click

from featx.backbones import MIN_SIZE
from featx.cli.options import check_output, echo_json, json_option, max_pixels_option, quiet_option, view_options
from featx.spec import DEFAULT, RESIZES, ExtractSpec


@click.command()
@click.argument("image", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False),
              help="Contact sheet to write, such as sheet.png.")  # fmt: skip
@click.option("--n-views", type=click.IntRange(min=2), default=12, show_default=True, metavar="N",
              help="Show the image and N - 1 augmented copies.")  # fmt: skip
@view_options(DEFAULT, DEFAULT)
@click.option("--size", type=click.IntRange(min=MIN_SIZE), default=224, show_default=True,
              help="Side of each copy, pixels.")  # fmt: skip
@click.option("--resize", type=click.Choice(RESIZES), default="squash", show_default=True,
              help="How to fit the image into --size.")  # fmt: skip
@max_pixels_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, image: str, output: str, quiet: bool, as_json: bool, max_pixels: int | None, **options: Any
) -> None:
    """Draw the augmented copies of IMAGE as a contact sheet.

    The first is the image itself. The others are the copies that featx extract makes with the same options.

    \b
    Examples:
      featx preview one.jpg -o sheet.png
      featx preview one.jpg -o sheet.png --n-views 6 --augment rotate=30 --fill edge
    """
    from featx.inspection import preview

    check_output(ctx, output, image)
    sheet = preview(image, ExtractSpec(**options), max_pixels=max_pixels)
    sheet.save(output)
    if as_json:
        echo_json({"sheet": output, "views": [dataclasses.asdict(view) for view in sheet.views]})
    elif not quiet:
        click.echo("\n".join(f"{index}: {view}" for index, view in enumerate(sheet.views)))

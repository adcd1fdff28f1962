"""``featx preview``."""

import dataclasses

import click

from featx.cli.options import (
    augmentation_options,
    check_output,
    echo_json,
    gather,
    json_option,
    max_pixels_option,
    quiet_option,
    resize_option,
    size_option,
)
from featx.spec import DEFAULT_AUGMENT, ExtractSpec


@click.command()
@click.argument("image", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Contact sheet to write, such as sheet.png.")  # fmt: skip
@gather(
    "spec",
    ExtractSpec,
    click.option("--n-views", type=click.IntRange(min=2), default=12, show_default=True, metavar="N",
                 help="Show the image and N - 1 augmented copies."),
    augmentation_options(DEFAULT_AUGMENT, DEFAULT_AUGMENT),
    size_option,
    resize_option,
)  # fmt: skip
@max_pixels_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    image: str,
    output: str,
    spec: ExtractSpec,
    max_pixels: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw the augmented copies of IMAGE as a contact sheet.

    The first picture is the image itself. The others are the copies that featx extract makes with the same options.

    \b
    Examples:
      featx preview one.jpg -o sheet.png
      featx preview one.jpg -o sheet.png --n-views 6 --augment rotate=30 --fill edge
    """
    from featx.inspection import preview

    check_output(ctx, output, image)
    sheet = preview(image, spec, max_pixels=max_pixels)
    sheet.save(output)
    if as_json:
        echo_json({"sheet": output, "views": [dataclasses.asdict(view) for view in sheet.views]})
    elif not quiet:
        click.echo("\n".join(f"{index}: {view}" for index, view in enumerate(sheet.views)))

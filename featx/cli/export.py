"""``featx export``."""

from pathlib import Path

import click

from featx.cli.options import check_output, echo_json, json_option

FORMS = ("onnx", "safetensors", "torch")


@click.command()
@click.argument("model", type=click.Path())
@click.option("--format", "form", type=click.Choice(FORMS),
              help="Format (default: what the output's suffix says, else onnx).")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False),
              help="File to write (default: the model's name with the format's suffix).")  # fmt: skip
@click.option("--weights", type=click.Path(), help="A weights file to take instead of the known sources.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, form: str | None, output: str | None, weights: str | None, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL as one file that runs without featx, checked against featx.

    \b
    onnx         images, uint8 (n, height, width, 3) RGB of any size, to probabilities (n, classes)
    safetensors  the backbone's and the head's weights under torchvision's names
    torch        a torch.export program, uint8 (n, 3, size, size) to logits

    \b
    Examples:
      featx export photos.featx
      featx export photos.featx --format torch
      featx export photos.featx -o first.pt2
    """
    from featx.exporting import SUFFIXES, export
    from featx.models import load_model

    check_output(ctx, output, model, weights)
    target = output or Path(model).with_suffix(SUFFIXES[form or "onnx"])
    exported = export(load_model(model), target, form, weights=weights, overwrite=overwrite)
    if as_json:
        echo_json({**vars(exported), "path": str(exported.path)})
    else:
        click.echo(
            f"{exported.path}: {exported.bytes / 1e6:.1f} MB; its {exported.answers} are within "
            f"{exported.difference:.1e} of featx's on three drawn pictures"
        )

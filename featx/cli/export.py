"""``featx export``."""

from pathlib import Path

import click

from featx.cli.options import check_output, echo_json, json_option, overwrite_option, weights_option

FORMATS = ("onnx", "safetensors", "torch")
INPUTS = ("images", "tensor")


@click.command()
@click.argument("model", type=click.Path())
@click.option("--format", type=click.Choice(FORMATS),
              help="Format (default: by the suffix of the output, else onnx).")  # fmt: skip
@click.option("--input", type=click.Choice(INPUTS), default="images", show_default=True,
              help="What the file takes: images as bytes, or float32 tensors of the model's size with values from 0 to "
                   "1, for GPUs, browsers and phones.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE",
              help="File to write (default: the name of the model with the suffix of the format).")  # fmt: skip
@weights_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, format: str | None, input: str, output: str | None, weights: str | None,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL as one file that runs without featx, and compare it with featx.

    \b
    onnx         from RGB images of any size, uint8 (n, height, width, 3), to probabilities (n, classes) and label;
                 --input tensor: from float32 (n, 3, size, size)
    torch        a torch.export program from uint8 (n, 3, size, size) to logits (n, classes);
                 --input tensor: from float32 (n, 3, size, size)
    safetensors  the weights of backbone and head under torchvision's names

    In every format, the class that featx predict names has the largest answer.

    \b
    Examples:
      featx export photos.featx
      featx export photos.featx --input tensor -o web.onnx
      featx export photos.featx --format torch
      featx export photos.featx -o second.pt2
    """
    from featx.exporting import SUFFIXES, export
    from featx.models import load_model

    check_output(ctx, output, model, weights)
    target = output or Path(model).with_suffix(SUFFIXES[format or "onnx"])
    exported = export(load_model(model), target, format, input=input, weights=weights, overwrite=overwrite)
    if as_json:
        echo_json({**vars(exported), "path": str(exported.path)})
    else:
        click.echo(
            f"{exported.path}: {exported.bytes / 1e6:.1f} MB; its {exported.answers} are within "
            f"{exported.difference:.1e} of featx's on the three reference images"
        )

"""``featx explain``."""

from typing import TYPE_CHECKING, Any

import click

from featx.cli.options import (
    check_output,
    compute_options,
    device_option,
    echo_json,
    json_option,
    max_pixels_option,
    quiet_option,
    weights_option,
)
from featx.runtime import Compute

if TYPE_CHECKING:
    from featx.inspection import ClassMap


@click.command()
@click.argument("model", type=click.Path())
@click.argument("image", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Image to write, such as explanation.png.")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, metavar="K",
              help="Explain the K most probable classes.")  # fmt: skip
@click.option(
    "--class", "classes", multiple=True, metavar="NAME", help="Explain only this class. The option may be repeated."
)
@click.option("--method", type=click.Choice(("auto", "cam", "grad-cam")), default="auto", show_default=True,
              help="Class activation maps (cam) or Grad-CAM. auto takes Grad-CAM for hidden layers, poolings other "
                   "than avg and flat, and fine-tuned backbones whose head is not linear in the features.")  # fmt: skip
@weights_option
@compute_options(device_option, max_pixels_option)
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, image: str, output: str, top: int, classes: tuple[str, ...], method: str,
    weights: str | None, compute: Compute, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Draw where in IMAGE the MODEL sees its classes: one map per block, and their sum.

    Red areas support a class, blue areas oppose it. With average pooling and a linear head on raw or standardized
    features, the maps are exact: their sum plus the intercept is the logit. With power normalization they are a
    first-order approximation. The maps are always computed in fp32.

    \b
    Examples:
      featx explain photos.featx one.jpg -o explanation.png
      featx explain photos.featx one.jpg -o explanation.png --class daisy --class dandelion
    """
    from featx.drawing import plot_format, save_figure
    from featx.inspection import explain, plot_explanation
    from featx.models import load_model

    check_output(ctx, output, model, image, weights)
    plot_format(output)
    found = explain(load_model(model), image, compute, top=top, classes=classes or None, method=method, weights=weights)
    save_figure(plot_explanation(found), output)
    if as_json:
        rows = [
            {"class": one.name, "logit": one.logit} | (_shares(one) if found.exact else {}) for one in found.classes
        ]
        echo_json({"output": output, "method": found.method, "exact": found.exact, "note": found.note, "classes": rows})
    elif not quiet:
        lines = [f"{one.name}: logit {one.logit:.3f}" for one in found.classes]
        click.echo("\n".join([*lines, found.note]))


def _shares(found: "ClassMap") -> dict[str, Any]:
    """Return the terms that add up to the logit. Their sum is the logit only if the maps are exact."""
    blocks = {number: float(values.sum()) for number, values in found.blocks.items()}
    return {"intercept": found.intercept, "blocks": blocks}

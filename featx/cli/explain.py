"""``featx explain``."""

from typing import TYPE_CHECKING, Any

import click

from featx.cli.options import check_output, echo_json, json_option, max_pixels_option, quiet_option

if TYPE_CHECKING:
    from featx.inspection import ClassMap


@click.command()
@click.argument("model", type=click.Path())
@click.argument("image", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The picture to write, cam.png.")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, metavar="K",
              help="Classes to explain, best first.")  # fmt: skip
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Explain this class instead; may be repeated.")
@click.option("--method", type=click.Choice(("auto", "cam", "grad-cam")), default="auto", show_default=True,
              help="Class activation maps, or Grad-CAM: auto takes it for hidden layers, max and gem pools, and "
                   "fine-tuned backbones whose head is not linear in the features.")  # fmt: skip
@click.option("--weights", type=click.Path(), help="A weights file to take instead of the known sources.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")
@max_pixels_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, image: str, output: str, top: int, classes: tuple[str, ...], quiet: bool,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Draw where in IMAGE the MODEL sees its classes, one map a block and their sum.

    Red speaks for a class, blue against it. With average pools and a linear head on raw or standardized features the
    maps are exact: they and the intercept add up to the logit. Behind power normalization they are of first order.
    All is computed in fp32, whatever the model's precision.

    \b
    Examples:
      featx explain photos.featx one.jpg -o cam.png
      featx explain photos.featx one.jpg -o cam.png --class daisy --class dandelion
    """
    from featx.inspection import draw_explanation, explain
    from featx.models import load_model
    from featx.runtime import Compute

    check_output(ctx, output, model, image, options["weights"])
    compute = Compute(device=options.pop("device"), max_pixels=options.pop("max_pixels"))
    found = explain(load_model(model), image, compute, top=top, classes=classes or None, **options)
    draw_explanation(found, output)
    if as_json:
        rows = [
            {"class": one.name, "logit": one.logit} | (_shares(one) if found.exact else {}) for one in found.classes
        ]
        echo_json({"output": output, "method": found.method, "exact": found.exact, "note": found.note, "classes": rows})
    elif not quiet:
        lines = [f"{one.name}: logit {one.logit:.3f}" for one in found.classes]
        click.echo("\n".join([*lines, found.note]))


def _shares(found: "ClassMap") -> dict[str, Any]:
    """What a logit is the sum of; of maps that are not exact the sums would mean nothing."""
    blocks = {number: float(values.sum()) for number, values in found.blocks.items()}
    return {"intercept": found.intercept, "blocks": blocks}

"""``featx audit``."""

from typing import Any

import click

from featx.cli.options import (
    LISTING,
    WITH_FAILURES,
    backbone_option,
    blocks_option,
    compute_options,
    device_option,
    echo_json,
    engine_option,
    folds_option,
    gather,
    interpolation_option,
    json_option,
    listing_options,
    max_pixels_option,
    pools_option,
    printable,
    quiet_option,
    resize_option,
    root_option,
    seed_option,
    size_option,
    weights_option,
)
from featx.runtime import Compute, pluralize
from featx.spec import ExtractSpec


@click.command()
@click.argument("source", metavar="IMAGES", type=click.Path())
@root_option
@gather("listing", listing_options, *LISTING)
@click.option("--images", type=click.IntRange(min=1), default=200, show_default=True, metavar="N",
              help="Images to draw, the same number from each class.")  # fmt: skip
@gather("spec", ExtractSpec, blocks_option, pools_option, size_option, resize_option, interpolation_option,
        backbone_option)  # fmt: skip
@weights_option
@click.option("--head", type=click.Choice(("linear-svc", "softmax", "ovr-logistic")), default="softmax",
              show_default=True, help="Linear head whose accuracy is measured.")  # fmt: skip
@folds_option
@seed_option("folds and of the images drawn")
@compute_options(engine_option, device_option, max_pixels_option)
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, source: str, root: str | None, listing: Any, images: int, spec: ExtractSpec,
    weights: str | None, head: str, folds: int, seed: int, compute: Compute, quiet: bool, as_json: bool,  # noqa: ARG001
) -> None:  # fmt: skip
    """Measure what common preprocessing mistakes would cost on a sample of IMAGES.

    Such mistakes raise no error, but the features are worse. For each mistake the table shows the fraction of images
    that it changes, the mean cosine of right and wrong features per block, and the accuracy lost, in points. The loss
    is measured twice: at prediction (the head was fitted on right features), and throughout (the head was fitted on
    wrong features too).

    \b
    Examples:
      featx audit photos
      featx audit manifest.csv --root /data/photos --images 340 --json
    """
    import dataclasses

    from featx.images import list_images
    from featx.inspection import audit

    listed = list_images(source, root, options=listing)
    report = audit(listed, spec, compute, weights=weights, images=images, head=head, folds=folds, random_state=seed)
    report = dataclasses.replace(report, source=source)
    for path, reason in report.failed:
        click.echo(f"warning: {printable(path)}: {reason}", err=True)
    if as_json:
        echo_json(dataclasses.asdict(report))
    else:  # also with --quiet: the table is the result, and --quiet hides only the progress bar
        click.echo("\n".join(table(report)))
    for note in report.notes:
        click.echo(note, err=True)
    if report.failed:
        ctx.exit(WITH_FAILURES)


def table(report: Any) -> list[str]:
    """Return the table, one line per mistake."""
    names = list(report.costs[0].cosines)
    head = pluralize(report.images, "image")
    if report.accuracy is not None:
        head += (
            f", {report.head}: accuracy {report.accuracy:.4f} ± {report.standard_error:.4f} with correct preprocessing"
        )
    columns = "".join(f"{name:>{len(name) + 2}}" for name in names)
    lines = [head, f"{'':<16}{'changed':>8}{columns}{'lost at prediction':>22}{'lost throughout':>18}"]
    for cost in report.costs:
        cosines = "".join(f"{cosine:>{len(name) + 2}.4f}" for name, cosine in cost.cosines.items())
        share = f"{cost.changed / report.images:.0%}"
        lines.append(
            f"{cost.name:<16}{share:>8}{cosines}{_points(cost.at_prediction):>22}{_points(cost.throughout):>18}"
        )
    return lines


def _points(loss: Any) -> str:
    return "–" if loss is None else f"{100 * loss.mean:.1f} ± {100 * loss.standard_error:.1f}"

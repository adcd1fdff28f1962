"""``featx audit``."""

from typing import Any

import click

from featx.cli.options import (
    WITH_FAILURES,
    echo_json,
    engine_options,
    json_option,
    max_pixels_option,
    printable,
    quiet_option,
    seed_option,
    spec_options,
)
from featx.runtime import Compute, pluralize
from featx.spec import ExtractSpec


@click.command()
@click.argument("source", metavar="IMAGES", type=click.Path())
@click.option("--root", type=click.Path(file_okay=False), help="Folder that a manifest's paths are relative to.")
@click.option("--images", type=click.IntRange(min=1), default=200, show_default=True, metavar="N",
              help="Images to draw, as many of each class.")  # fmt: skip
@spec_options
@click.option("--head", type=click.Choice(("linear-svc", "softmax", "ovr-logistic")), default="softmax",
              show_default=True)  # fmt: skip
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@seed_option("Of the folds, and of the images drawn.")
@max_pixels_option
@engine_options
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: str,
    quiet: bool,
    as_json: bool,
    max_pixels: int | None,
    engine: str,
    device: str,
    seed: int,
    **options: Any,
) -> None:
    """Say what the usual mistakes of preprocessing would cost on a sample of IMAGES.

    IMAGES are those of featx extract. Each mistake goes unnoticed: features still come out, only worse. For each, the
    table has the share of the images that it changes, the mean cosine of right and wrong features a block, and the
    points of accuracy lost, by cross-validation: at prediction, by a head that was fitted on right features, and
    throughout, by one that was fitted on the same wrong ones.

    \b
    Examples:
      featx audit photos
      featx audit manifest.csv --root /data/photos --images 340 --json
    """
    import dataclasses

    from featx.inspection import audit

    names = {field.name for field in dataclasses.fields(ExtractSpec)}
    spec = ExtractSpec(**{name: options.pop(name) for name in names & options.keys()})
    compute = Compute(engine=engine, device=device, max_pixels=max_pixels, progress=not quiet)
    report = audit(source, spec, compute, random_state=seed, **options)
    for path, reason in report.failed:
        click.echo(f"warning: {printable(path)}: {reason}", err=True)
    if as_json:
        echo_json(dataclasses.asdict(report))
    else:
        click.echo("\n".join(table(report)))
    for note in report.notes:
        click.echo(note, err=True)
    if report.failed:
        ctx.exit(WITH_FAILURES)


def table(report: Any) -> list[str]:
    """The table, a line a mistake."""
    names = list(report.costs[0].cosines)
    head = pluralize(report.images, "image")
    if report.accuracy is not None:
        head += f", {report.head}: accuracy {report.accuracy:.4f} ± {report.standard_error:.4f} as declared"
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

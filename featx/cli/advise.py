"""``featx advise``."""

from pathlib import Path
from typing import Any

import click

from featx.cli.options import check_output, echo_json, json_option, seed_option, split_options


@click.command()
@click.argument("store", type=click.Path())
@split_options
@click.option("--more", type=click.IntRange(min=1), metavar="N",
              help="Forecast N more images a class (default: as many again).")  # fmt: skip
@click.option("--root", type=click.Path(), help="Folder of the images, for the commands to type.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the probe.")
@seed_option("Of the folds, and of the images drawn.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw the four cases and the data: plane.png.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, store: str, plot: str | None, as_json: bool, **options: Any) -> None:
    """Say which way of transfer learning fits the images of STORE, and why.

    Data may be small or large, and alike or unlike ImageNet's photographs. Both are measured: by the learning curve
    of a linear head, and by which depths are best and how far feature statistics lie from those of photographs.

    \b
    Examples:
      featx advise photos.h5
      featx advise photos.h5 --more 40 --plot plane.png
    """
    import dataclasses

    from featx.drawing import plot_format
    from featx.inspection import advise, draw_plane

    if plot:  # before what takes long
        plot_format(plot)
        check_output(ctx, plot, store)
    advice = advise(store, split_column=options.pop("column"), random_state=options.pop("seed"), **options)
    if plot:
        draw_plane(advice, Path(plot))
    if as_json:
        echo_json(dataclasses.asdict(advice))
        return
    size, likeness = advice.size, advice.likeness
    click.echo(f"{'images a class':<16}{'accuracy':>10}{'± s.e.':>8}")
    for point in size.curve:
        click.echo(f"{point.per_class:<16.1f}{point.mean:>10.4f}{point.standard_error:>8.4f}")
    parts = ", ".join(f"{name} {part:.2f}" for name, part in likeness.parts.items())
    click.echo(f"size: {size.score:.2f} ({size.low:.2f}–{size.high:.2f}): images {size.count:.2f}, flat curve "
               f"{size.flatness:.2f}")  # fmt: skip
    click.echo("likeness: unknown" if likeness.score is None else f"likeness: {likeness.score:.2f}: {parts}")
    click.echo(f"\n{advice.recommendation}\n")
    for line in advice.commands:
        click.echo(f"  {line}")
    click.echo(f"\nexpected: {advice.expected_gain}")
    click.echo(f"forecast: {advice.forecast}")
    for caveat in advice.caveats:
        click.echo(f"caveat: {caveat}")

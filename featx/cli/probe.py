"""``featx probe``."""

import dataclasses

import click

from featx.cli.options import (
    check_output,
    compute_options,
    device_option,
    echo_json,
    engine_option,
    folds_option,
    json_option,
    repeats_option,
    seed_option,
    split_column_option,
    test_size_option,
)
from featx.runtime import Compute


@click.command()
@click.argument("store", type=click.Path())
@click.option("--head", type=click.Choice(("linear-svc", "softmax", "ovr-logistic")), default="softmax",
              show_default=True, help="Linear head to compare the blocks with.")  # fmt: skip
@split_column_option
@test_size_option
@folds_option
@repeats_option
@click.option("--scoring", default="accuracy", show_default=True, metavar="NAME",
              help="Any scikit-learn scorer for classification.")  # fmt: skip
@seed_option("folds and hold-out")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Also write a plot of the score by depth, such as probe.png.",
)
@click.option("--no-time", "timed", is_flag=True, flag_value=False, default=True, help="Do not time the backbone.")
@compute_options(engine_option, device_option)
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, head: str, split_column: str | None, test_size: float | None, folds: int,
    repeats: int, scoring: str, seed: int, plot: str | None, timed: bool, compute: Compute, as_json: bool,
) -> None:  # fmt: skip
    """Compare the depths of the backbone for the images of STORE: accuracy and cost.

    Each range of consecutive blocks is scored by cross-validation on the training rows. Images with the same value in
    the column group stay together. For a small data set that differs from ImageNet, early blocks are often the best,
    and they cost least. LogME scores features without fitting a head.

    \b
    Examples:
      featx probe photos.h5 --plot depth.png
    """
    from featx.drawing import plot_format, save_figure
    from featx.inspection import plot_probe, probe

    if plot:
        plot_format(plot)
        check_output(ctx, plot, store)
    report = probe(store, head=head, split_column=split_column, test_size=test_size, folds=folds, repeats=repeats,
                   scoring=scoring, random_state=seed, timed=timed, compute=compute)  # fmt: skip
    if plot:
        save_figure(plot_probe(report), plot)
    if as_json:
        chosen = {"best": report.best.name, "one_se": report.one_se.name, "advice": report.advice}
        echo_json({**dataclasses.asdict(report), **chosen})
        return
    click.echo(f"{'blocks':<8}{report.scoring:>10}{'± s.e.':>8}{'LogME':>8}{'arithmetic':>12}{'ms':>8}{'bytes':>8}")
    for depth in report.depths:
        milliseconds = "–" if depth.milliseconds is None else f"{depth.milliseconds:.1f}"
        click.echo(
            f"{depth.name:<8}{depth.mean:>10.4f}{depth.standard_error:>8.4f}{depth.logme:>8.3f}"
            f"{depth.arithmetic:>12.0%}{milliseconds:>8}{depth.bytes:>8}"
        )
    click.echo(report.advice)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)

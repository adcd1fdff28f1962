"""``featx probe``."""

from pathlib import Path
from typing import Any

import click

from featx.cli.options import check_output, echo_json, engine_options, json_option, seed_option, split_options


@click.command()
@click.argument("store", type=click.Path())
@click.option("--head", type=click.Choice(("linear-svc", "softmax", "ovr-logistic")), default="softmax",
              show_default=True)  # fmt: skip
@split_options
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--scoring", default="accuracy", show_default=True, help="Any of scikit-learn's scorers of classes.")
@seed_option("Of folds and hold-out.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw score against cost: probe.png.")
@click.option("--no-time", "timed", is_flag=True, flag_value=False, default=True, help="Do not time the backbone.")
@engine_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, store: str, plot: str | None, as_json: bool, **options: Any) -> None:
    """Say how good every depth of the backbone is for the images of STORE, and what it costs.

    Each run of blocks is scored by cross-validation on the training rows. Small data unlike ImageNet wants early
    blocks, which are also the cheap ones. LogME scores features without fitting anything.

    \b
    Examples:
      featx probe photos.h5 --plot depth.png
    """
    import dataclasses

    from featx.drawing import plot_format
    from featx.inspection import draw_probe, probe
    from featx.runtime import Compute

    if plot:  # before what takes long
        plot_format(plot)
        check_output(ctx, plot, store)
    compute = Compute(engine=options.pop("engine"), device=options.pop("device"))
    split_column, random_state = options.pop("column"), options.pop("seed")
    report = probe(store, compute=compute, split_column=split_column, random_state=random_state, **options)
    if plot:
        draw_probe(report, Path(plot))
    if as_json:
        chosen = {"best": report.best.name, "frugal": report.frugal.name, "advice": report.advice}
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

"""``featx advise``."""

import dataclasses

import click

from featx.cli.options import (
    check_output,
    echo_json,
    folds_option,
    json_option,
    seed_option,
    split_column_option,
    test_size_option,
)


@click.command()
@click.argument("store", type=click.Path())
@split_column_option
@test_size_option
@click.option("--more", type=click.IntRange(min=1), metavar="N",
              help="Forecast the gain from N more images per class (default: the present number).")  # fmt: skip
@click.option(
    "--root",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder of the images, for the suggested commands.",
)
@folds_option
@seed_option("folds and of the images drawn")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE",
              help="Also write a plot of the data set among the four cases, such as plane.png.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, split_column: str | None, test_size: float | None, more: int | None,
    root: str | None, folds: int, seed: int, plot: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Recommend feature extraction or fine-tuning for the images of STORE, and say why.

    A data set may be small or large, and similar to ImageNet's photographs or different. Size is measured by
    the learning curve of a linear head. Similarity is measured by the best depth and by feature statistics.

    \b
    Examples:
      featx advise photos.h5
      featx advise photos.h5 --more 40 --plot plane.png
    """
    from featx.drawing import plot_format, save_figure
    from featx.inspection import advise, plot_plane

    if plot:
        plot_format(plot)
        check_output(ctx, plot, store)
    advice = advise(store, split_column=split_column, test_size=test_size, more=more, root=root, folds=folds,
                    random_state=seed)  # fmt: skip
    if plot:
        save_figure(plot_plane(advice), plot)
    if as_json:
        echo_json(dataclasses.asdict(advice))
        return
    size, similarity = advice.size, advice.similarity
    click.echo(f"{'images per class':<18}{'accuracy':>10}{'± s.e.':>8}")
    for point in size.curve:
        click.echo(f"{point.per_class:<18.1f}{point.mean:>10.4f}{point.standard_error:>8.4f}")
    parts = ", ".join(f"{name} {part:.2f}" for name, part in similarity.parts.items())
    click.echo(f"size: {size.score:.2f} ({size.low:.2f}–{size.high:.2f}): images {size.count:.2f}, flat curve "
               f"{size.flatness:.2f}")  # fmt: skip
    click.echo("similarity: unknown" if similarity.score is None else f"similarity: {similarity.score:.2f}: {parts}")
    click.echo(f"\n{advice.recommendation}\n")
    for line in advice.commands:
        click.echo(f"  {line}")
    click.echo(f"\nexpected: {advice.expected_gain}")
    click.echo(f"forecast: {advice.forecast}")
    for caveat in advice.caveats:
        click.echo(f"caveat: {caveat}")

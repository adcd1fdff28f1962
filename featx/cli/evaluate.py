"""``featx evaluate``."""

import click

from featx.cli.options import echo_json, json_option
from featx.runtime import pluralize


@click.command()
@click.argument("model", type=click.Path())
@click.argument("store", type=click.Path())
@click.option("--split", metavar="VALUE",
              help="Score the rows with this value of the split column (default: rows held out by fit).")  # fmt: skip
@click.option("--split-column", metavar="NAME", help="Split column to use (default: the one that fit used).")
@json_option
def command(model: str, store: str, split: str | None, split_column: str | None, as_json: bool) -> None:
    """Score MODEL on images of STORE that it was not fitted on.

    The command prints accuracy, balanced accuracy, macro F1, top-5 accuracy, the expected calibration error, a table of
    scores per class, and the most frequent confusions. The calibration error says how far probabilities are from
    observed frequencies; a linear-svc has no calibration error unless it was fitted with --calibrate. For a multi-label
    model, the command prints micro and macro average precision and F1.

    \b
    Examples:
      featx fit photos.h5 -o photos.featx --test-size 0.2
      featx evaluate photos.featx photos.h5
      featx evaluate photos.featx other.h5 --json
    """
    from featx.heads import format_report
    from featx.models import evaluate, load_model

    fitted = load_model(model)
    report = evaluate(fitted, store, split=split, split_column=split_column)
    if as_json:
        echo_json(report)
        return
    click.echo(format_report(report))
    if report["unknown"]:
        rows = pluralize(report["unknown"], "row")
        click.echo(f"{rows} left out: unlabeled, or with a label that the model does not know", err=True)
    if report["calibration_error"] is None:
        remedy = "fit another head" if fitted.multilabel else "fit with --calibrate"
        click.echo(f"no expected calibration error: {fitted.head} has no probabilities; {remedy} to get them", err=True)

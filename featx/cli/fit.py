"""``featx fit``."""

from typing import Any

import click

from featx.cli.options import Blocks, Pools, check_output, echo_json, json_option, quiet_option, seed_option
from featx.runtime import pluralize

HEADS = ("best", "linear-svc", "softmax", "ovr-logistic")


@click.command()
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The model, photos.featx.")
@click.option("--head", type=click.Choice(HEADS), default="best", show_default=True, help="Which linear head.")
@click.option("--blocks", type=Blocks(), help="Blocks to use: 3-5 or 1,4 (default: the best run of neighbors).")
@click.option("--pools", type=Pools(), help="Pools to use (default: all that the store has).")
@click.option(
    "--C", "C", type=click.FloatRange(min=0, min_open=True), help="Inverse penalty (default: best of a grid)."
)
@click.option("--normalize", type=click.Choice(("power", "standard", "none")), default="power", show_default=True)
@click.option("--split-column", metavar="NAME",
              help="Fit the rows that this column marks train (default: split, where the store has it).")  # fmt: skip
@click.option("--test-size", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Hold out this share of the rows for: featx evaluate.")  # fmt: skip
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the cross-validation.")
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Of the cross-validation.")
@click.option("--scoring", metavar="NAME",
              help="Any of scikit-learn's scorers of classes (default: accuracy), or, where images have several "
              "labels, average_precision_macro (then the default) or average_precision_micro.")  # fmt: skip
@click.option("--select", type=click.Choice(("best", "one-se")), default="best", show_default=True,
              help="The best mean, of equals the simplest, or the simplest within a standard error.")  # fmt: skip
@click.option("--class-weight", type=click.Choice(("balanced",)), help="Weigh classes by how rare they are.")
@click.option("--weight-column", metavar="NAME", help="Weigh rows by this column of the manifest, weight….")
@seed_option("Seed of the folds and of the held-out rows.")
@click.option("--calibrate", is_flag=True, help="Give linear-svc probabilities; the other heads have their own.")
@click.option("--nested", is_flag=True,
              help="Also estimate, by nested cross-validation, what the choice is worth on new images.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="Worker processes for --nested and for the fits of scikit-learn (default: 1, or all CPUs of the Ray "
              "cluster). The model is the same for any number.")  # fmt: skip
@click.option("--executor", type=click.Choice(("local", "ray")), default="local", show_default=True,
              help="Where the workers run: on this machine, or on the Ray cluster at RAY_ADDRESS.")  # fmt: skip
@click.option(
    "--stream",
    is_flag=True,
    help="Read rows from disk block by block, where they do not fit in memory; needs --head softmax and --C.",
)
@click.option("--overwrite", is_flag=True, help="Replace a model that is there.")
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, output: str, head: str, blocks: tuple[int, ...] | None,
    pools: tuple[str, ...] | None, C: float | None, normalize: str, class_weight: str | None, weight_column: str | None,
    calibrate: bool, stream: bool, jobs: int | None, executor: str, seed: int, overwrite: bool, quiet: bool, as_json: bool,
    **validation: Any,
) -> None:  # fmt: skip
    """Fit a linear head on STORE and save the model.

    Head, C and blocks that are not given are chosen by cross-validation, in which files of equal bytes stay
    together; the saved model is fitted by scikit-learn on all training rows.

    \b
    Examples:
      featx fit photos.h5 -o photos.featx
      featx fit photos.h5 -o photos.featx --test-size 0.2
      featx fit photos.h5 -o photos.featx --nested --jobs 2
      featx fit photos.h5 -o photos.featx --head linear-svc --calibrate
      featx fit photos.h5 -o photos.featx --head softmax --blocks 5 --C 0.1 --normalize none
      featx fit million.h5 -o million.featx --head softmax --blocks 5 --C 1 --stream
    """
    from featx.models import FitOptions, Validation, fit
    from featx.runtime import Compute

    check_output(ctx, output, store)
    model = fit(
        store, output, head=head, blocks=blocks, pools=pools, C=C,
        options=FitOptions(
            normalize=normalize, class_weight=class_weight, weight_column=weight_column, calibrate=calibrate,
            stream=stream,
        ),
        validation=Validation(**validation, random_state=seed),
        compute=Compute(workers=jobs, executor=executor),
        overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        echo_json({"model": output, "head": model.head, **model.info})
    elif not quiet:
        if "search" in model.info:
            click.echo(_summary(model.info["search"]))
        if nested := model.info.get("nested"):
            click.echo(f"estimate not flattered by selection: {nested['mean']:.3f} ± {nested['standard_error']:.3f}")
        click.echo(f"{output}: {_saved(model)}")


def _summary(search: dict[str, Any]) -> str:
    """What was chosen, and below it the best of each other head, best first."""
    from featx.heads import SearchRow, choose

    chosen = SearchRow(**search["best"])
    tried: dict[str, list[SearchRow]] = {}
    for row in search["rows"]:
        tried.setdefault(row["head"], []).append(SearchRow(**row))
    others = [choose(rows, search["rule"]) for head, rows in tried.items() if head != chosen.head]
    lines = [f"{'head':<14}{'blocks':<10}{'C':>10}  {search['scoring']} (standard error)"]
    lines += [
        f"{row.head:<14}{row.feature_set:<10}{row.C:>10g}  {row.mean:.4f} ({row.standard_error:.4f})"
        for row in [chosen, *sorted(others, key=lambda row: -row.mean)]
    ]
    return "\n".join(lines)


def _saved(model: Any) -> str:
    """What was saved, in one line."""
    blocks = ",".join(map(str, model.spec.blocks))
    if "search" in model.info:
        blocks = model.info["search"]["best"]["feature_set"]
    facts = [
        model.head,
        f"block{'s' * (len(model.spec.blocks) > 1)} {blocks}",
        f"C = {model.info['C']:g}",
        pluralize(len(model.classes), "class", "classes"),
        model.fitted_on,
        *["calibrated"] * bool(model.calibration),
        *["several labels an image"] * model.multilabel,
    ]
    return ", ".join(facts)

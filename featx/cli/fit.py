"""``featx fit``."""

from typing import Any

import click

from featx.cli.options import (
    Blocks,
    Pools,
    SectionedCommand,
    check_output,
    echo_json,
    folds_option,
    gather,
    json_option,
    overwrite_option,
    quiet_option,
    repeats_option,
    seed_option,
    test_size_option,
)
from featx.runtime import EXECUTORS, Compute, pluralize

HEADS = ("best", "linear-svc", "softmax", "ovr-logistic")
SECTIONS = {
    "Input and output": ("output", "overwrite", "quiet", "as_json"),
    "Head": ("head", "blocks", "pools", "C", "normalize", "calibrate", "class_weight", "weight_column"),
    "Choice and hold-out": (
        "split_column", "test_size", "group_column", "group_near_duplicates", "folds", "repeats", "scoring", "select",
        "nested", "seed",
    ),
    "How it runs": ("jobs", "executor", "stream"),
}  # fmt: skip


def _options(**fields: Any) -> Any:
    from featx.models import FitOptions

    return FitOptions(**fields)


def _validation(seed: int, **fields: Any) -> Any:
    from featx.models import Validation

    return Validation(random_state=seed, **fields)


def _compute(jobs: int | None, executor: str) -> Compute:
    return Compute(workers=jobs, executor=executor)


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Model to write, such as photos.featx.")  # fmt: skip
@click.option("--head", type=click.Choice(HEADS), default="best", show_default=True,
              help="Linear head; best tries all three.")  # fmt: skip
@click.option("--blocks", type=Blocks(), help="Blocks to use: 3-5 or 1,4 (default: the best range).")
@click.option("--pools", type=Pools(), help="Poolings to use (default: all of the store).")
@click.option("--C", "C", type=click.FloatRange(min=0, min_open=True), metavar="C",
              help="Inverse strength of the L2 penalty (default: the best value of a grid).")  # fmt: skip
@gather(
    "options",
    _options,
    click.option("--normalize", type=click.Choice(("power", "standard", "none")), default="power", show_default=True,
                 help="Normalization of the features: signed square root and unit norm per block, or zero mean "
                      "and unit variance."),
    click.option("--calibrate", is_flag=True,
                 help="Calibrate the decisions of linear-svc, so that the model has probabilities; "
                      "predictions do not change."),
    click.option("--class-weight", type=click.Choice(("balanced",)), help="Give rare classes more weight."),
    click.option("--weight-column", metavar="NAME",
                 help="Column of the manifest with sample weights; its name starts with weight."),
    click.option("--stream", is_flag=True,
                 help="Read the store in blocks of rows, if it does not fit in memory; needs --head softmax and --C."),
)  # fmt: skip
@gather(
    "validation",
    _validation,
    click.option("--split-column", metavar="NAME",
                 help="Fit on the rows with the value train in this column (default: split, if the store has it)."),
    test_size_option,
    click.option("--group-column", metavar="NAME",
                 help="Keep images with the same value in this column, such as images of one patient, on one side of "
                      "every fold and of the hold-out; none turns this off (default: group, if the store has it)."),
    click.option("--group-near-duplicates", is_flag=True,
                 help="Also keep near-duplicates on one side, such as the frames of a burst."),
    folds_option,
    repeats_option,
    click.option("--scoring", metavar="NAME",
                 help="Any scikit-learn scorer for classification (default: accuracy). Multi-label: "
                      "average_precision_macro (default) or average_precision_micro."),
    click.option("--select", type=click.Choice(("best", "one-se")), default="best", show_default=True,
                 help="Choose the best mean score, or the simplest candidate within one standard error of it."),
    click.option("--nested", is_flag=True,
                 help="Also estimate the accuracy on new images by nested cross-validation."),
    seed_option("folds and hold-out"),
)  # fmt: skip
@gather(
    "compute",
    _compute,
    click.option("--jobs", type=click.IntRange(min=1), metavar="N",
                 help="Processes for --nested and for the fits of scikit-learn; the model is the same for any number "
                      "(default: 1, or all CPUs of the Ray cluster)."),
    click.option("--executor", type=click.Choice(EXECUTORS), default="local", show_default=True,
                 help="Run on this machine, or on the Ray cluster at RAY_ADDRESS."),
)  # fmt: skip
@overwrite_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, output: str, head: str, blocks: tuple[int, ...] | None,
    pools: tuple[str, ...] | None, C: float | None, options: Any, validation: Any, compute: Compute, overwrite: bool,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Fit a linear head on STORE and save the model.

    Head, C and blocks are chosen by cross-validation, unless you give them. Files with equal bytes, augmented copies of
    one image, and images of one group, such as a patient, stay in one fold. scikit-learn fits the saved model on all
    training rows.

    A class with fewer images than folds is tested only in some of the folds. A class with one image is never tested.
    The command names such classes.

    \b
    Examples:
      featx fit photos.h5 -o photos.featx
      featx fit photos.h5 -o photos.featx --test-size 0.2
      featx fit photos.h5 -o photos.featx --nested --jobs 2
      featx fit photos.h5 -o photos.featx --group-near-duplicates
      featx fit photos.h5 -o photos.featx --head linear-svc --calibrate
      featx fit photos.h5 -o photos.featx --head softmax --blocks 5 --C 0.1 --normalize none
      featx fit million.h5 -o million.featx --head softmax --blocks 5 --C 1 --stream
    """
    from featx.models import fit

    check_output(ctx, output, store)
    model = fit(store, output, head=head, blocks=blocks, pools=pools, C=C, options=options, validation=validation,
                compute=compute, overwrite=overwrite)  # fmt: skip
    if as_json:
        echo_json({"model": output, "head": model.head, **model.info})
    elif not quiet:
        if "search" in model.info:
            click.echo(_summary(model.info["search"]))
        if nested := model.info.get("nested"):
            score = f"{nested['mean']:.3f} ± {nested['standard_error']:.3f}"
            click.echo(f"nested cross-validation, an estimate for new images: {score}")
        click.echo(f"{output}: {_saved(model)}")


def _summary(search: dict[str, Any]) -> str:
    """Return a table with the chosen head, followed by the best candidate of each other head."""
    from featx.heads import Candidate, select_candidate

    if search["best"]["mean"] is None:
        return "no cross-validation: every class has one image or group to train on, and none to test"
    chosen = Candidate(**search["best"])
    tried: dict[str, list[Candidate]] = {}
    for row in search["rows"]:
        tried.setdefault(row["head"], []).append(Candidate(**row))
    others = [select_candidate(rows, search["rule"]) for head, rows in tried.items() if head != chosen.head]
    lines = [f"{'head':<14}{'blocks':<10}{'C':>10}  {search['scoring']} (standard error)"]
    lines += [
        f"{row.head:<14}{row.feature_set:<10}{row.C:>10g}  {row.mean:.4f} ({row.standard_error:.4f})"
        for row in [chosen, *sorted(others, key=lambda row: -row.mean)]
    ]
    return "\n".join(lines)


def _saved(model: Any) -> str:
    """Describe the saved model in one line."""
    from featx.models import describe_groups

    blocks = ",".join(map(str, model.spec.blocks))
    if "search" in model.info:
        blocks = model.info["search"]["best"]["feature_set"]
    facts = [
        model.head,
        f"block{'s' * (len(model.spec.blocks) > 1)} {blocks}",
        f"C = {model.info['C']:g}",
        pluralize(len(model.classes), "class", "classes"),
        model.training_summary,
        *[f"groups: {describe_groups(groups)}" for groups in [model.info.get("groups")] if groups],
        *["calibrated"] * bool(model.calibration),
        *["multi-label"] * model.multilabel,
    ]
    return ", ".join(facts)

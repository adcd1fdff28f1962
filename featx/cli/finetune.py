"""``featx finetune``."""

import dataclasses
from typing import Any

import click

from featx.cli.options import (
    check_output,
    decode_timeout_option,
    echo_json,
    engine_options,
    json_option,
    max_pixels_option,
    quiet_option,
    seed_option,
)


@click.command()
@click.argument("model", type=click.Path())
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The model to write.")
@click.option("--root", required=True, type=click.Path(file_okay=False), help="Folder of the images.")
@click.option("--unfreeze", default="block5", show_default=True, help="block5, layers=4, all or none.")
@click.option(
    "--epochs", type=click.IntRange(min=0), default=10, show_default=True, help="Of the backbone and the head."
)
@click.option("--head-epochs", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of the head alone, before; on stored features, so in seconds.")  # fmt: skip
@click.option("--hidden", type=click.IntRange(min=0), default=0, help="Units of a hidden layer (default: none).")
@click.option("--dropout", type=float, default=0.0, show_default=True)
@click.option("--init", type=click.Choice(("head", "random")), default="head", show_default=True,
              help="New layers begin as scikit-learn's head, or at random.")  # fmt: skip
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Learning rate of the head.")
@click.option(
    "--backbone-lr-scale", type=float, default=0.01, show_default=True, help="The backbone's, as a share of it."
)
@click.option("--layer-decay", type=float, default=1.0, show_default=True, help="Factor for each earlier convolution.")
@click.option("--weight-decay", type=float, default=1e-4, show_default=True)
@click.option("--label-smoothing", type=float, default=0.0, show_default=True)
@click.option("--mixup", type=float, default=0.0, show_default=True, help="Parameter of the Beta distribution.")
@click.option("--schedule", type=click.Choice(("cosine", "constant")), default="cosine", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--accumulate", type=click.IntRange(min=1), default=1, show_default=True, help="Passes a step.")
@click.option("--ema-decay", type=float, default=0.0, show_default=True,
              help="Decay per step of a moving average of the weights (default: no average).")  # fmt: skip
@click.option("--patience", type=click.IntRange(min=0), default=0, help="Epochs without gain (default: no limit).")
@click.option("--val-size", type=float, default=0.2, show_default=True, help="Share of the training images.")
@click.option("--refit", is_flag=True, help="At the end train as long on all training images.")
@click.option("--from-scratch", is_flag=True, help="Begin at random, backbone and head, for comparison.")
@click.option("--amp/--no-amp", default=None,
              help="Train the backbone in mixed precision, bfloat16 (default: where it is faster).")  # fmt: skip
@seed_option("Of all random numbers.")
@click.option("--weights", type=click.Path(), help="The backbone's weights, if not those known by its name.")
@max_pixels_option
@decode_timeout_option
@engine_options
@click.option("--cache", type=click.Path(file_okay=False),
              help="Folder to keep what the frozen layers give, gigabytes, for other splits and recipes.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a model that is there.")
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, store: str, output: str, quiet: bool, as_json: bool, max_pixels: int | None,
    engine: str, device: str, seed: int, **options: Any,
) -> None:  # fmt: skip
    """Train MODEL further on the images of STORE: new layers, then the last ones of the backbone.

    It begins where scikit-learn ended and keeps the best validated state, so that it is never worse on validation
    (but for --init random).
    The views in the store are what it trains on; the log is in OUTPUT.finetune. Stopped, the same command goes on.

    \b
    Examples:
      featx extract photos -o photos.h5 --size 384 --n-views 4 --augment flip,rotate=30,crop
      featx fit photos.h5 -o photos.featx --blocks 3-5
      featx finetune photos.featx photos.h5 -o tuned.featx --root photos
      torchrun --nproc-per-node 4 -m featx finetune photos.featx photos.h5 -o tuned.featx --root photos
    """
    from featx.finetuning import Recipe, finetune, is_first
    from featx.models import load_model
    from featx.runtime import Compute

    check_output(ctx, output, model, store, options["weights"], makes_folder=True)
    names = {field.name for field in dataclasses.fields(Recipe)}
    recipe = Recipe(random_state=seed, **{name: options.pop(name) for name in names & options.keys()})
    compute = Compute(engine=engine, device=device, max_pixels=max_pixels, progress=not quiet)
    report = finetune(load_model(model), store, output, recipe, compute, **options)
    if not is_first():
        return
    if as_json:
        echo_json(dataclasses.asdict(report))
    elif not quiet:
        best = ", ".join(f"{name} {epoch}" for name, epoch in report.epochs.items())
        click.echo(
            f"{report.model}: validation accuracy {report.val_start:.4f} -> {report.val_best:.4f}; best epoch: {best}"
        )
        if report.backbone:
            click.echo(f"{report.backbone} goes with it: keep them side by side")

"""``featx finetune``."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from featx.cli.options import (
    SectionedCommand,
    check_output,
    compute_options,
    decode_timeout_option,
    device_option,
    echo_json,
    engine_option,
    gather,
    json_option,
    max_pixels_option,
    overwrite_option,
    quiet_option,
    seed_option,
    weights_option,
)
from featx.runtime import Compute

SECTIONS = {
    "Input and output": ("output", "root", "weights", "cache", "plot", "overwrite", "quiet", "as_json"),
    "Training": ("epochs", "unfreeze", "lr", "backbone_lr_scale", "batch_size", "val_size", "refit", "seed"),
    "Head": ("head_epochs", "init", "hidden", "dropout"),
    "Regularization and schedule": (
        "weight_decay", "label_smoothing", "mixup", "ema_decay", "schedule", "patience", "layer_decay", "accumulate",
        "from_scratch",
    ),
    "How it runs": ("engine", "device", "amp", "max_pixels", "decode_timeout"),
}  # fmt: skip


def _recipe(seed: int, **fields: Any) -> Any:
    from featx.finetuning import Recipe

    return Recipe(random_state=seed, **fields)


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("model", type=click.Path())
@click.argument("store", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="Model to write, such as tuned.featx.")  # fmt: skip
@click.option("--root", required=True, type=click.Path(file_okay=False), metavar="FOLDER",
              help="Folder of the images.")  # fmt: skip
@weights_option
@click.option("--cache", type=click.Path(file_okay=False), metavar="FOLDER",
              help="Folder that keeps the output of the frozen layers (gigabytes) for other recipes.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE",
              help="Also write a plot of accuracy by epoch, such as curves.png.")  # fmt: skip
@gather(
    "recipe",
    _recipe,
    click.option(
        "--unfreeze",
        default="block5",
        show_default=True,
        metavar="LAYERS",
        help="Layers of the backbone to train: block5 (from this block on), layers=4 (the last four), all or none.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=0),
        default=10,
        show_default=True,
        metavar="N",
        help="Epochs that train the head and the unfrozen layers.",
    ),
    click.option(
        "--head-epochs",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="Epochs that train only the head, before the backbone is trained (fast: they use stored features).",
    ),
    click.option(
        "--hidden",
        type=click.IntRange(min=0),
        default=0,
        metavar="UNITS",
        help="Units of a hidden layer in the head (default: no hidden layer).",
    ),
    click.option(
        "--dropout",
        type=float,
        default=0.0,
        show_default=True,
        metavar="FRACTION",
        help="Fraction of the inputs of the head's last layer that are dropped in training.",
    ),
    click.option(
        "--init",
        type=click.Choice(("head", "random")),
        default="head",
        show_default=True,
        help="Initialize the new layers from the fitted head, or at random.",
    ),
    click.option("--lr", type=float, default=1e-3, show_default=True, help="Learning rate of the head."),
    click.option(
        "--backbone-lr-scale",
        type=float,
        default=0.01,
        show_default=True,
        metavar="FRACTION",
        help="Learning rate of the backbone, as a fraction of --lr.",
    ),
    click.option(
        "--layer-decay",
        type=float,
        default=1.0,
        show_default=True,
        metavar="FACTOR",
        help="Learning rate of each convolution, as a fraction of the next one.",
    ),
    click.option("--weight-decay", type=float, default=1e-4, show_default=True, help="Weight decay of AdamW."),
    click.option(
        "--label-smoothing", type=float, default=0.0, show_default=True, help="Label smoothing of the cross-entropy."
    ),
    click.option(
        "--mixup",
        type=float,
        default=0.0,
        show_default=True,
        metavar="ALPHA",
        help="Parameter of the Beta distribution of mixup; 0 turns mixup off.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(("cosine", "constant")),
        default="cosine",
        show_default=True,
        help="Schedule of the learning rates.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        metavar="N",
        help="Images per forward pass of the training.",
    ),
    click.option(
        "--accumulate",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Forward passes per optimizer step.",
    ),
    click.option(
        "--ema-decay",
        type=float,
        default=0.0,
        show_default=True,
        help="Decay per step of the exponential moving average of the weights; 0 turns averaging off.",
    ),
    click.option(
        "--patience",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Stop after N epochs without a better validation score (default: never).",
    ),
    click.option(
        "--val-size",
        type=float,
        default=0.2,
        show_default=True,
        metavar="FRACTION",
        help="Fraction of the training images held out for validation.",
    ),
    click.option(
        "--refit", is_flag=True, help="At the end, train again on all training images, for the best number of epochs."
    ),
    click.option("--from-scratch", is_flag=True, help="Start from a random backbone and head, for comparison."),
    click.option(
        "--amp/--no-amp",
        default=None,
        help="Train the backbone in mixed precision, bfloat16 (default: where it is faster).",
    ),
    seed_option("all random numbers"),
)
@compute_options(engine_option, device_option, decode_timeout_option, max_pixels_option)
@overwrite_option
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: str, store: str, output: str, root: str, weights: str | None, cache: str | None,
    plot: str | None, recipe: Any, compute: Compute, overwrite: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train MODEL further on the images of STORE: its head and the last layers of the backbone.

    Training starts from the fitted head, or from a random head with --init random. It uses the augmented copies of the
    store. The model with the best validation accuracy is kept. This may be the model at the start. The log is in the
    folder OUTPUT.finetune. The same command resumes a stopped run. It needs the extra torch.

    \b
    Examples:
      featx extract photos -o photos.h5 --size 384 --n-views 4 --augment flip,rotate=30,crop
      featx fit photos.h5 -o photos.featx --blocks 3-5
      featx finetune photos.featx photos.h5 -o tuned.featx --root photos --plot curves.png
      torchrun --nproc-per-node 4 -m featx finetune photos.featx photos.h5 -o tuned.featx --root photos
    """
    from featx.drawing import plot_format, save_figure
    from featx.finetuning import finetune, is_main_process, plot_training_curves, read_logs, run_folder
    from featx.models import load_model

    check_output(ctx, output, model, store, weights, makes_folder=True)
    if plot:
        plot_format(plot)
        check_output(ctx, plot, model, store)
    report = finetune(load_model(model), store, output, recipe, compute, root=root, weights=weights, cache=cache,
                      overwrite=overwrite)  # fmt: skip
    if not is_main_process():
        return
    if plot:
        save_figure(plot_training_curves(read_logs([run_folder(Path(output))])), plot)
    if as_json:
        echo_json(dataclasses.asdict(report))
    elif not quiet:
        best = ", ".join(f"{name} {epoch}" for name, epoch in report.epochs.items())
        click.echo(
            f"{report.model}: validation accuracy {report.val_start:.4f} -> {report.val_best:.4f}; best epoch: {best}"
        )
        if report.backbone:
            click.echo(f"{report.backbone} holds its backbone: keep both files together")

"""``featx extract``."""

from typing import Any

import click

from featx.cli.extracted import print_listing, print_report
from featx.cli.options import (
    AUGMENTATION,
    LISTING,
    RUN,
    Limits,
    SectionedCommand,
    augmentation_options,
    backbone_option,
    blocks_option,
    check_output,
    compute_options,
    gather,
    interpolation_option,
    json_option,
    listing_options,
    overwrite_option,
    pools_option,
    quiet_option,
    refuse_given,
    resize_option,
    root_option,
    size_option,
    weights_option,
)
from featx.runtime import EXECUTORS, Compute
from featx.spec import AUTO, DECODES, DEFAULT_AUGMENT, PRECISIONS, ExtractSpec

SECTIONS = {
    "Input and output": ("output", "root", "overwrite", "strict", "missing_images", "quiet", "as_json"),
    "What the images are": ("layout", "split_folders", "label_column", "group_column", "dry_run", "sheet"),
    "Features": (
        "blocks", "pools", "size", "resize", "interpolation", "precision", "decode", "range", "backbone", "weights",
    ),
    "Augmentation": ("n_views", "augment", "fill", "view_seed"),
    "Speed and memory": ("engine", "device", "batch_size", "workers", "decode_timeout", "max_pixels"),
    "Large stores and many machines": (
        "assemble", "dtype", "shard", "executor", "ray_address", "cpus_per_worker", "gpus_per_worker",
    ),
}  # fmt: skip


def _spec(n_views: int, augment: str | None, **fields: Any) -> ExtractSpec:
    if n_views == 1:
        refuse_given(click.get_current_context(), AUGMENTATION, "--n-views of 2 or more")
    if augment is None:
        augment = DEFAULT_AUGMENT if n_views > 1 else ""
    return ExtractSpec(n_views=n_views, augment=augment, **fields)


def _assembly(**fields: Any) -> Any:
    from featx.extraction import AssemblyOptions

    return AssemblyOptions(**fields)


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("images", type=click.Path())
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE",
              help="Store to write, such as photos.h5. Required without --dry-run.")  # fmt: skip
@root_option
@gather("listing", listing_options, *LISTING)
@click.option("--dry-run", is_flag=True,
              help="Only print what featx finds in IMAGES: classes, splits, skipped files. "
                   "No features, no store.")  # fmt: skip
@click.option("--sheet", type=click.Path(dir_okay=False), metavar="FILE",
              help="With --dry-run: draw some images of each class and split on a contact sheet, "
                   "such as sheet.png.")  # fmt: skip
@gather(
    "spec",
    _spec,
    blocks_option,
    pools_option,
    size_option,
    resize_option,
    interpolation_option,
    backbone_option,
    click.option("--precision", type=click.Choice((AUTO, *PRECISIONS)), default="fp32", show_default=True,
                 help="Precision of the arithmetic. auto: as in the existing store, else the fastest "
                      "that agrees with fp32."),
    click.option("--decode", type=click.Choice(DECODES), default="full", show_default=True,
                 help="scaled: decode large JPEGs at reduced size; faster, pixel values differ slightly."),
    click.option("--range", type=Limits(), default=AUTO, show_default=True, metavar="LOW:HIGH",
                 help="Values that are black and white in images of more than 8 bits. dtype: the limits of the image's "
                      "type. auto: the same for 16 bits; for floats and signed integers one range for all images."),
    click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                 help="Rows per image: the plain image and N - 1 augmented copies. featx preview shows them."),
    augmentation_options(None, DEFAULT_AUGMENT),
)  # fmt: skip
@weights_option
@gather(
    "assembly",
    _assembly,
    click.option("--missing-images", type=click.Choice(("error", "drop", "keep")), default="error", show_default=True,
                 help="What to do with rows of the store whose images are no longer in IMAGES."),
    click.option("--assemble", type=click.Choice(("copy", "virtual")),
                 help="virtual: the store refers to part files in a folder beside it, instead of copying them "
                      "(default: as in the existing store, else copy)."),
    click.option("--store-dtype", "dtype", type=click.Choice(("float32", "float16")),
                 help="float16: half the size, features rounded to 3 digits (default: as in the store, else float32)."),
)  # fmt: skip
@overwrite_option
@click.option("--strict", is_flag=True, help="Stop at the first unreadable image instead of recording it.")
@compute_options(
    *RUN,
    click.option("--executor", type=click.Choice(EXECUTORS), default="local", show_default=True,
                 help="Run in this process, or on a Ray cluster (extra ray)."),
    click.option("--shard", metavar="N/COUNT",
                 help="Write only the parts of one shard, such as 3/16. featx assemble joins the parts."),
    click.option("--ray-address", metavar="ADDRESS",
                 help="Address of the Ray cluster (default: RAY_ADDRESS, else this machine)."),
    click.option("--cpus-per-worker", type=click.IntRange(min=1), metavar="N",
                 help="Cores per Ray actor (default: an equal share)."),
    click.option("--gpus-per-worker", type=click.FloatRange(min=0), metavar="N",
                 help="GPUs per Ray actor (default: 1 if there are GPUs)."),
)  # fmt: skip
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, images: str, output: str | None, root: str | None, listing: Any, dry_run: bool,
    sheet: str | None, spec: ExtractSpec, weights: str | None, assembly: Any, overwrite: bool, strict: bool,
    compute: Compute, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Extract the features of IMAGES into a store.

    IMAGES is one of these: a folder with one sub-folder per class, which may be in folders of splits (train, test); a
    flat folder; a CSV or Parquet manifest (path,label[,split]); one image; a .tar shard (WebDataset) or a .parquet file
    of images; a folder of such shards or files; a saved Hugging Face data set. It may also be the URL of any of these
    (s3://, gs://, hf://), which needs the extra remote.

    The same command resumes a stopped run. If images were added to IMAGES, it extracts only the new ones. The store
    always gets the labels and splits of IMAGES; the summary counts the changes. The summary also says what was skipped
    or guessed; --dry-run prints only that, in seconds. The exit code is 3 if some images could not be read.

    With --executor ray, --workers sets the number of Ray actors. With --shard, several jobs of any scheduler can write
    parts at the same time.

    \b
    Examples:
      featx extract photos --dry-run --sheet sheet.png
      featx extract photos -o photos.h5
      featx extract photos -o photos.h5 --size 384 --pools avg,max --precision bf16
      featx extract manifest.csv --root /data/photos -o photos.h5
      featx extract photos -o copies.h5 --n-views 8 --augment flip,rotate=30,scale=0.8:1.2
      featx extract s3://bucket/shards -o photos.h5 --workers 32
      featx extract /shared/photos -o /shared/photos.h5 --executor ray --ray-address auto
      featx extract /shared/photos -o /shared/photos.h5 --shard 3/16
    """
    if dry_run:
        _print_listing(ctx, images, root, listing, sheet, quiet=quiet, as_json=as_json)
        return
    refuse_given(ctx, ("sheet",), "--dry-run")
    if output is None:
        raise click.UsageError("--output of extract is missing; name the store to write, or give --dry-run", ctx)
    from featx.extraction import extract

    check_output(ctx, output, images, weights, makes_folder=True)
    report = extract(images, output, spec, compute, root=root, weights=weights, assembly=assembly, listing=listing,
                     overwrite=overwrite, strict=strict)  # fmt: skip
    print_report(ctx, report, quiet=quiet, as_json=as_json)


def _print_listing(
    ctx: click.Context, images: str, root: str | None, options: Any, sheet: str | None, *, quiet: bool, as_json: bool
) -> None:
    """Print what featx finds in a source, and write a contact sheet if ``sheet`` is given."""
    from featx.drawing import image_format
    from featx.images import list_images

    if sheet:
        image_format(sheet, "--sheet of extract")
        check_output(ctx, sheet, images)
    listing = list_images(images, root, options=options)
    drawn = None
    if sheet:
        from featx.inspection import draw_listing

        drawn = draw_listing(listing)
        drawn.save(sheet)
    print_listing(ctx, listing, drawn, quiet=quiet, as_json=as_json)

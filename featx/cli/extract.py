"""``featx extract``."""

from typing import Any

import click

from featx.cli.extracted import tell
from featx.cli.options import (
    OF_VIEWS,
    check_output,
    device_options,
    json_option,
    pop_fields,
    quiet_option,
    refuse_given,
    spec_options,
    view_options,
)
from featx.runtime import EXECUTORS, Compute
from featx.spec import AUTO, DECODES, DEFAULT, PRECISIONS, ExtractSpec

OF_RAY = ("ray_address", "cpus_per_worker", "gpus_per_worker")


@click.command()
@click.argument("images", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The store to write, photos.h5.")
@click.option("--root", type=click.Path(file_okay=False),
              help="Folder or URL that a manifest's paths are relative to.")  # fmt: skip
@spec_options
@click.option("--precision", type=click.Choice((AUTO, *PRECISIONS)), default="fp32", show_default=True,
              help="Of the arithmetic; auto: the store's, else the fastest here that agrees with fp32.")  # fmt: skip
@click.option("--decode", type=click.Choice(DECODES), default="full", show_default=True,
              help="scaled: decode large JPEGs at half, a quarter or an eighth; faster, and other pixels.")  # fmt: skip
@click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
              help="Rows an image: the plain picture and K - 1 augmented copies; see: featx preview.")  # fmt: skip
@view_options(None, DEFAULT)
@click.option("--missing-images", type=click.Choice(("error", "drop", "keep")), default="error", show_default=True,
              help="What to do with the store's rows whose images are no longer in IMAGES.")  # fmt: skip
@click.option("--assemble", "layout", type=click.Choice(("copy", "virtual")),
              help="virtual: the store refers to part files in a folder beside it, instead of copying them "
              "(default: as the store is, else copy).")  # fmt: skip
@click.option(
    "--store-dtype",
    "dtype",
    type=click.Choice(("float32", "float16")),
    help="float16: half the room, features rounded to 3 digits (default: as the store is, else float32).",
)
@click.option("--overwrite", is_flag=True, help="Start anew whatever the output holds.")
@click.option("--strict", is_flag=True, help="Stop at the first bad image instead of recording it.")
@device_options
@click.option("--executor", type=click.Choice(EXECUTORS), default="local", show_default=True,
              help="Where to run: in this process, or on a Ray cluster (extra ray).")  # fmt: skip
@click.option("--shard", metavar="N/COUNT",
              help="Make the parts of this shard only, such as 3/16; see: featx assemble.")  # fmt: skip
@click.option("--ray-address", metavar="ADDRESS",
              help="Address of the Ray cluster (default: RAY_ADDRESS, else this machine).")  # fmt: skip
@click.option("--cpus-per-worker", type=click.IntRange(min=1), metavar="N",
              help="Cores of each Ray worker (default: an equal share).")  # fmt: skip
@click.option("--gpus-per-worker", type=click.FloatRange(min=0), metavar="N",
              help="GPUs of each Ray worker (default: 1 where there are any).")  # fmt: skip
@quiet_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, images: str, output: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Turn IMAGES into a store of VGG16 features.

    IMAGES is a folder with one sub-folder a class, a flat folder, a CSV or Parquet manifest (path,label[,split]), one
    image, a .tar shard (WebDataset) or .parquet file of images or a folder of them, a data set that Hugging Face
    datasets saved, or the URL of any of these (s3://, gs://, hf://; extra remote).
    Run again after adding images, and only those are extracted; stop it, and the same command goes on. Labels and
    splits are always those of IMAGES: where others were in the store, the summary counts them.
    Exit code 3 says that some images could not be read: they are in the store's failures.

    With --executor ray, --workers sets the number of Ray workers. With --shard, jobs of any scheduler write the parts
    at the same time.

    \b
    Examples:
      featx extract photos -o photos.h5
      featx extract photos -o photos.h5 --size 384 --pools avg,max --precision bf16
      featx extract manifest.csv --root /data/photos -o photos.h5
      featx extract s3://bucket/shards -o photos.h5 --workers 32
      featx extract /shared/photos -o /shared/photos.h5 --executor ray --ray-address auto
      featx extract /shared/photos -o /shared/photos.h5 --shard 3/16
      featx extract photos -o views.h5 --n-views 8 --augment flip,rotate=30,scale=0.8:1.2
    """
    from featx.extraction import AssemblyOptions, extract

    if options["executor"] != "ray":
        refuse_given(ctx, OF_RAY, "--executor ray")
    if options["n_views"] == 1:
        refuse_given(ctx, OF_VIEWS, "--n-views of 2 or more")
    check_output(ctx, output, images, options["weights"], makes_folder=True)
    if options["augment"] is None:
        options["augment"] = DEFAULT if options["n_views"] > 1 else ""
    options["progress"] = not quiet
    spec, compute = pop_fields(ExtractSpec, options), pop_fields(Compute, options)
    assembly = pop_fields(AssemblyOptions, options)
    report = extract(images, output, spec, compute, assembly=assembly, **options)
    tell(ctx, report, quiet=quiet, as_json=as_json)

"""``featx extract``."""

import dataclasses
from typing import Any

import click

from featx.augment import DEFAULT
from featx.commands.options import (
    WITH_FAILURES,
    device_options,
    echo_json,
    json_option,
    printable,
    quiet_option,
    spec_options,
    view_options,
)
from featx.spec import DECODES, PRECISIONS, ExtractSpec
from featx.words import count

SHOWN = 10


@click.command()
@click.argument("images", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The store to write, photos.h5.")
@click.option("--root", type=click.Path(file_okay=False),
              help="Folder or URL that a manifest's paths are relative to.")  # fmt: skip
@spec_options
@click.option("--precision", type=click.Choice(("auto", *PRECISIONS)), default="fp32", show_default=True,
              help="Of the arithmetic; auto: the store's, else the fastest here that agrees with fp32.")  # fmt: skip
@click.option("--decode", type=click.Choice(DECODES), default="full", show_default=True,
              help="scaled: decode large JPEGs at half, a quarter or an eighth; faster, and other pixels.")  # fmt: skip
@click.option("--views", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
              help="Rows an image: the plain picture and K - 1 augmented copies; see: featx views.")  # fmt: skip
@view_options(None, DEFAULT)
@click.option("--missing", type=click.Choice(("error", "drop", "keep")), default="error", show_default=True,
              help="What to do with the store's rows whose images have gone.")  # fmt: skip
@click.option("--assemble", "assembly", type=click.Choice(("copy", "virtual")),
              help="virtual: the store refers to part files in a folder beside it, instead of copying them "
              "(default: as the store is, else copy).")  # fmt: skip
@click.option(
    "--store-dtype",
    type=click.Choice(("float32", "float16")),
    help="float16: half the room, features rounded to 3 digits (default: as the store is, else float32).",
)
@click.option("--overwrite", is_flag=True, help="Start anew whatever the output holds.")
@click.option("--strict", is_flag=True, help="Stop at the first bad image instead of recording it.")
@device_options
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, images: str, output: str, quiet: bool, as_json: bool, max_pixels: int | None, **options: Any
) -> None:
    """Turn IMAGES into a store of VGG16 features.

    IMAGES is a folder with one sub-folder a class, a flat folder, a CSV or Parquet manifest (path,label[,split]), one
    image, a .tar shard (WebDataset) or .parquet file of images or a folder of them, a data set that Hugging Face
    datasets saved, or the URL of any of these (s3://, gs://, hf://; extra remote).
    Run again after adding images, and only those are extracted; stop it, and the same command goes on. Labels and
    splits are always those of IMAGES: where others were in the store, the summary counts them.
    Exit code 3 says that some images could not be read: they are in the store's failures.

    \b
    Examples:
      featx extract photos -o photos.h5
      featx extract photos -o photos.h5 --size 384 --pools avg,max --precision bf16
      featx extract manifest.csv --root /data/photos -o photos.h5
      featx extract s3://bucket/shards -o photos.h5 --workers 32
      featx extract photos -o views.h5 --views 8 --augment flip,rotate=30,scale=0.8:1.2
    """
    from featx.extract import extract

    if options["augment"] is None:
        options["augment"] = DEFAULT if options["views"] > 1 else ""
    fields = {field.name for field in dataclasses.fields(ExtractSpec)}
    # The precision may be auto, which no spec holds.
    spec = ExtractSpec(**{name: options.pop(name) for name in (fields - {"precision"}) & options.keys()})
    if max_pixels is not None:
        options["max_pixels"] = max_pixels
    report = extract(images, output, spec, progress=not quiet, **options)
    for path, reason in report.failures[:SHOWN]:
        click.echo(f"warning: {printable(path)}: {reason}", err=True)
    if len(report.failures) > SHOWN:
        click.echo(f"warning: {len(report.failures) - SHOWN} more; see: featx info {output}", err=True)
    for first, second in report.conflicts[:SHOWN]:
        click.echo(
            f"warning: {printable(first)} and {printable(second)} have the same bytes but different classes", err=True
        )
    if as_json:
        echo_json(dataclasses.asdict(report))
    elif not quiet:
        click.echo(_summary(report))
    if report.failures:
        ctx.exit(WITH_FAILURES)


def _summary(report: Any) -> str:
    rate = report.extracted / report.views / report.seconds
    images = f" of {count(report.rows // report.views, 'image')}" if report.views > 1 else ""
    lines = [
        f"{report.store}: {count(report.rows, 'row')}{images}, {report.extracted:,} extracted "
        f"in {report.seconds:.1f} s ({rate:.1f} images/s)"
    ]
    if report.agreement:
        cosines = ", ".join(f"{name} {cosine:.5f}" for name, cosine in report.agreement.items())
        lines.append(f"int8 calibrated on a sample; mean cosine to fp32: {cosines}")
    if report.rates:
        rates = ", ".join(f"{stage} {rate:.0f}" for stage, rate in report.rates.items())
        lines.append(f"{report.precision}; each stage alone, images/s: {rates}")
        lines.append(report.advice)
    if report.turned:
        lines.append(f"{count(report.turned, 'image')} turned upright, by the EXIF orientation")
    if report.dropped:
        lines.append(f"{count(report.dropped, 'row')} dropped: their images have gone")
    for number, what in ((report.relabeled, "labels"), (report.resplit, "split columns")):
        if number:
            lines.append(f"{what} of {count(number, 'image')} changed to what the source says now")
    if report.failures:
        lines.append(f"{count(len(report.failures), 'image')} failed: see featx info {report.store}")
    return "\n".join(lines)

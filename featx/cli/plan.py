"""``featx plan``."""

import dataclasses
from typing import Any

import click

from featx.backbones import BLOCK_NUMBERS, MIN_SIZE
from featx.cli.options import Blocks, Pools, echo_json, json_option
from featx.spec import DEFAULT, PRECISIONS, ExtractSpec

HOUR, DAY = 3600, 86_400
GB = 1e9


class Count(click.ParamType):  # type: ignore[type-arg]
    """A number of images: ``10M``, ``250k``, ``1360``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; what is wrong names the option."""
        from featx.extraction import parse_count

        try:
            return parse_count(str(value))
        except ValueError as error:
            self.fail(f"--images of plan {error}", param, ctx)


@click.command()
@click.option("--images", required=True, type=Count(), help="How many: 10M, 250k, 1360.")
@click.option("--size", type=click.IntRange(min=MIN_SIZE), default=224, show_default=True, help="Image side, pixels.")
@click.option("--blocks", type=Blocks(), default=BLOCK_NUMBERS, help="Blocks to tap (default: all).")
@click.option("--pools", type=Pools(), default="avg", show_default=True, help="How to pool: avg, max, gem, flat.")
@click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Rows an image.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="(default: bf16 with --devices, fp32 to measure)")
@click.option("--devices", metavar="8xH100", help="How many of which device, of the package's table.")
@click.option("--measure", is_flag=True, help="Measure this machine instead.")
@click.option("--price", type=click.FloatRange(min=0), metavar="PER-HOUR", help="Of one device.")
@click.option("--assemble", "layout", type=click.Choice(("copy", "virtual")), default="copy", show_default=True,
              help="As in featx extract.")  # fmt: skip
@click.option("--store-dtype", "dtype", type=click.Choice(("float32", "float16")), default="float32", show_default=True)
@json_option
def command(
    images: int,
    precision: str | None,
    devices: str | None,
    measure: bool,
    price: float | None,
    layout: str,
    dtype: str,
    as_json: bool,
    **fields: Any,
) -> None:
    """Say what an extraction takes in time, disk, memory and money, before it is begun.

    Rates are measured on this machine, or come from a table of measurements in the package; of a device that was not
    measured they are estimated from its peak, and called so.

    \b
    Examples:
      featx plan --images 10M --devices 8xH100 --price 2.50
      featx plan --images 250k --size 384 --measure
    """
    from featx.extraction import AssemblyOptions, plan

    if measure == bool(devices):
        raise click.UsageError("featx plan takes one of --devices and --measure; give --devices 8xH100, or --measure")
    augment = DEFAULT if fields["n_views"] > 1 else ""
    spec = ExtractSpec(precision=precision or ("bf16" if devices else "fp32"), augment=augment, **fields)
    found = plan(images, spec, devices=devices, price=price, assembly=AssemblyOptions(layout=layout, dtype=dtype))
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        click.echo("\n".join(_lines(found, spec)))


def _lines(found: Any, spec: ExtractSpec) -> list[str]:
    rate = found.rate
    how = "measured" if rate.measured else "estimated"
    lines = [
        f"images   {found.images:,} at {spec.size} px, {spec.precision}, {spec.width:,} columns a row",
        f"devices  {found.devices} × {rate.device}",
        f"rate     {rate.backbone:,.1f} images/s a device, {how}: {rate.source}",
        f"time     {_duration(found.seconds)} of the backbone",
    ]
    if found.whole_seconds:
        lines.append(f"         {_duration(found.whole_seconds)} of the whole way at {rate.whole:,.1f} images/s a "
                     "device, one process each, files to store")  # fmt: skip
    else:
        lines.append("         more if reading and decoding are slower: that needs a measurement, featx extract's last "
                     "line on a sample")  # fmt: skip
    lines += [
        f"disk     {found.disk / GB:,.1f} GB for the store, {found.peak_disk / GB:,.1f} GB until it is assembled",
        f"memory   {found.memory / GB:,.1f} GB to list and assemble",
    ]
    if found.cost is not None:
        cost = f"{found.cost:,.2f}"
        lines.append(f"cost     {f'at least {cost}, of the backbone alone' if found.cost_at_least else cost}")
    return lines


def _duration(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds / 60:,.1f} minutes"
    return f"{seconds / HOUR:,.1f} hours" if seconds < 2 * DAY else f"{seconds / DAY:,.1f} days"

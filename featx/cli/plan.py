"""``featx plan``."""

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from featx.cli.options import blocks_option, echo_json, json_option, pools_option, size_option
from featx.spec import DEFAULT_AUGMENT, PRECISIONS, ExtractSpec

if TYPE_CHECKING:
    from featx.extraction import Plan

HOUR, DAY = 3600, 86_400
GB = 1e9


class Count(click.ParamType):  # type: ignore[type-arg]
    """The type of a number of images, such as ``10M``, ``250k`` or ``1360``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse a number with its unit; the message about a wrong value names the option."""
        from featx.extraction import parse_count

        try:
            return parse_count(str(value))
        except ValueError as error:
            self.fail(f"--images of plan {error}", param, ctx)


@click.command()
@click.option("--images", required=True, type=Count(), metavar="N", help="Number of images: 10M, 250k, 1360.")
@size_option
@blocks_option
@pools_option
@click.option("--n-views", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Rows per image.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS),
              help="Precision of the arithmetic (default: bf16 with --devices, fp32 with --measure).")  # fmt: skip
@click.option("--devices", metavar="8xH100", help="Number and kind of devices; featx has a table of their rates.")
@click.option(
    "--measure", is_flag=True, help="Measure the rates of this machine instead of taking them from the table."
)
@click.option("--price", type=click.FloatRange(min=0), metavar="AMOUNT", help="Price of one device per hour.")
@click.option("--assemble", type=click.Choice(("copy", "virtual")), default="copy", show_default=True,
              help="How the store is assembled, as in featx extract.")  # fmt: skip
@click.option("--store-dtype", "dtype", type=click.Choice(("float32", "float16")), default="float32", show_default=True,
              help="Data type of the stored features.")  # fmt: skip
@json_option
def command(
    images: int, size: int, blocks: tuple[int, ...], pools: tuple[str, ...], n_views: int, precision: str | None,
    devices: str | None, measure: bool, price: float | None, assemble: str, dtype: str, as_json: bool,
) -> None:  # fmt: skip
    """Estimate time, disk, memory and cost of an extraction.

    Rates are measured on this machine, or come from a table of measurements that ships with featx. If a device was not
    measured, its rates are estimated from its peak performance, and the output marks them as estimates.

    \b
    Examples:
      featx plan --images 10M --devices 8xH100 --price 2.50
      featx plan --images 250k --size 384 --measure
    """
    from featx.extraction import AssemblyOptions, plan

    if measure == bool(devices):
        raise click.UsageError("featx plan takes one of --devices and --measure; give --devices 8xH100, or --measure")
    spec = ExtractSpec(size=size, blocks=blocks, pools=pools, n_views=n_views,
                       augment=DEFAULT_AUGMENT if n_views > 1 else "",
                       precision=precision or ("bf16" if devices else "fp32"))  # fmt: skip
    found = plan(images, spec, devices=devices, price=price, assembly=AssemblyOptions(assemble=assemble, dtype=dtype))
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        click.echo("\n".join(_lines(found, spec)))


def _lines(found: "Plan", spec: ExtractSpec) -> list[str]:
    rate = found.rate
    how = "measured" if rate.measured else "estimated"
    lines = [
        f"images   {found.images:,} at {spec.size} px, {spec.precision}, {spec.width:,} columns per row",
        f"devices  {found.devices} × {rate.device}",
        f"rate     {rate.backbone:,.1f} images/s per device, {how}: {rate.source}",
        f"time     {_duration(found.seconds)} to run the backbone",
    ]
    if found.whole_seconds:
        lines.append(f"         {_duration(found.whole_seconds)} from files to store at {rate.whole:,.1f} images/s per "
                     "device, one process each")  # fmt: skip
    else:
        lines.append("         more if reading and decoding are slower: see the summary of featx extract on a "
                     "sample")  # fmt: skip
    lines += [
        f"disk     {found.disk / GB:,.1f} GB for the store, {found.peak_disk / GB:,.1f} GB until it is assembled",
        f"memory   {found.memory / GB:,.1f} GB to list and assemble",
    ]
    if found.cost is not None:
        cost = f"{found.cost:,.2f}"
        lines.append(f"cost     {f'at least {cost}, for the backbone alone' if found.cost_at_least else cost}")
    return lines


def _duration(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds / 60:,.1f} minutes"
    return f"{seconds / HOUR:,.1f} hours" if seconds < 2 * DAY else f"{seconds / DAY:,.1f} days"

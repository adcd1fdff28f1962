"""The summary that ``featx extract`` and ``featx assemble`` print."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import click

from featx.cli.options import WITH_FAILURES, echo_json, printable
from featx.runtime import pluralize
from featx.spec import AUTO

SHOWN = 10


def print_listing(ctx: click.Context, listing: Any, sheet: Any, *, quiet: bool, as_json: bool) -> None:
    """Print what was found in a source, and exit with code 3 if files could not be listed.

    ``sheet`` is the contact sheet that was drawn, or None.
    """
    failures = [*listing.failures, *(sheet.failures if sheet else ())]
    _print_failures(failures)
    if len(failures) > SHOWN:
        click.echo(f"warning: {len(failures) - SHOWN} more; --json lists all of them", err=True)
    if as_json:
        echo_json({"listing": listing.summary.to_dict(), "failures": failures})
    elif not quiet:
        lines = list(map(printable, listing.summary.lines()))
        if sheet:
            shown = f" of {sheet.groups:,}" if sheet.groups > sheet.shown_groups else ""
            lines.append(f"the sheet shows {pluralize(len(sheet.rows), 'image')} of {sheet.shown_groups}{shown} "
                         "classes and splits")  # fmt: skip
        click.echo("\n".join([*lines, "dry run: no features were extracted"]))
    if failures:
        ctx.exit(WITH_FAILURES)


def _print_failures(failures: Sequence[tuple[str, str]]) -> None:
    for path, reason in failures[:SHOWN]:
        click.echo(f"warning: {printable(path)}: {reason}", err=True)


def print_report(ctx: click.Context, report: Any, *, quiet: bool, as_json: bool) -> None:
    """Print warnings and the report, and exit with code 3 if images failed."""
    _print_failures(report.failures)
    if len(report.failures) > SHOWN and not report.shard:
        click.echo(f"warning: {len(report.failures) - SHOWN} more; see: featx info {report.store}", err=True)
    for first, second in report.conflicts[:SHOWN]:
        click.echo(
            f"warning: {printable(first)} and {printable(second)} have the same bytes, but different classes", err=True
        )
    for path, reason in report.unchecked[:SHOWN]:
        click.echo(f"warning: {printable(path)} cannot be read now, its features are kept: {reason}", err=True)
    if len(report.unchecked) > SHOWN:
        click.echo(
            f"warning: {len(report.unchecked) - SHOWN} more cannot be read now; their features are kept", err=True
        )
    if as_json:
        echo_json(dataclasses.asdict(report))
    elif not quiet:
        click.echo(_summary(report))
    if report.failures:
        ctx.exit(WITH_FAILURES)


def _summary(report: Any) -> str:
    from featx.images import describe_remarks

    if report.shard:
        return (
            f"shard {report.shard} of {report.store}: {pluralize(report.rows, 'row')} in its parts, finished in "
            f"{report.seconds:.1f} s; when all shards are finished: featx assemble {report.store}"
        )
    rate = report.extracted / report.n_views / report.seconds
    images = f" of {pluralize(report.rows // report.n_views, 'image')}" if report.n_views > 1 else ""
    lines = [
        f"{report.store}: {pluralize(report.rows, 'row')}{images}, {report.extracted:,} extracted "
        f"in {report.seconds:.1f} s ({rate:.1f} images/s)"
    ]
    if report.listing:
        lines += map(printable, report.listing.lines())
    if report.agreement:
        cosines = ", ".join(f"{name} {cosine:.5f}" for name, cosine in report.agreement.items())
        lines.append(f"int8 was calibrated on a sample of the images; mean cosine to fp32: {cosines}")
    if report.rates:
        rates = ", ".join(f"{stage} {rate:.0f}" for stage, rate in report.rates.items())
        lines.append(f"{report.precision}; images/s of each stage alone: {rates}")
        lines.append(report.advice)
    if report.exif_rotated:
        lines.append(f"{pluralize(report.exif_rotated, 'image')} rotated by the EXIF orientation")
    if report.range.startswith(f"{AUTO}:"):
        low, high = report.range.removeprefix(f"{AUTO}:").split(":")
        lines.append(
            f"in images of floats, signed integers or 32 bits, {low} is black and {high} is white: chosen on a sample; "
            "--range LOW:HIGH sets other values"
        )
    lines += describe_remarks(report.remarks)
    if report.dropped:
        lines.append(f"{pluralize(report.dropped, 'row')} dropped: their images are gone")
    for number, what in ((report.labels_changed, "labels"), (report.columns_changed, "split columns")):
        if number:
            lines.append(f"{what} of {pluralize(number, 'image')} updated from the source")
    if report.unchecked:
        lines.append(f"{pluralize(len(report.unchecked), 'image')} could not be checked for changes: features are kept")
    if report.failures:
        lines.append(f"{pluralize(len(report.failures), 'image')} could not be read: see featx info {report.store}")
    return "\n".join(lines)

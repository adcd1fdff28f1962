"""``featx verify``."""

import dataclasses
import math
from typing import Any

import click

from featx.cli.options import (
    RUN,
    WITH_FAILURES,
    compute_options,
    echo_json,
    json_option,
    printable,
    quiet_option,
    seed_option,
    weights_option,
)
from featx.runtime import Compute, pluralize

SHOWN = 10


@click.command()
@click.argument("store", type=click.Path())
@click.option("--root", required=True, type=click.Path(), metavar="FOLDER",
              help="Folder or URL that the paths of the store are relative to, or the extracted shards.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=1), default=100, show_default=True, metavar="N",
              help="Number of images to draw.")  # fmt: skip
@seed_option("the draw")
@weights_option
@compute_options(*RUN)
@quiet_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, store: str, root: str, sample: int, seed: int, weights: str | None, compute: Compute,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Extract a sample of the images of STORE again, and compare with its rows.

    Augmented copies and the reference images are compared too. A row agrees if its difference is within the tolerance
    of the store's precision class. The exit code is 1 if features differ. It is 3 if all features agree, but some
    images are missing or have changed.

    \b
    Examples:
      featx verify photos.h5 --root photos
      featx verify photos.h5 --root photos --sample 1000 --seed 7 --json
    """
    from featx.curation import verify

    report = verify(store, root, compute, sample=sample, random_state=seed, weights=weights)
    away = [(path, "has changed") for path in report.changed]
    far = [
        (row.path, f"{row.feature} of view {row.view_index} differs by {row.error:.2g}")
        for row in report.differing[:SHOWN]
    ]
    for path, reason in (*report.missing, *away, *report.failed, *far):
        click.echo(f"warning: {printable(path)}: {reason}", err=True)
    if as_json:
        echo_json(_finite(dataclasses.asdict(report)))
    elif not quiet:
        click.echo("\n".join(_lines(report)))
    report.check()
    if report.missing or report.changed:
        ctx.exit(WITH_FAILURES)


def _lines(report: Any) -> list[str]:
    """Return the report as lines of text."""
    allowed = f"{report.precision} allows {report.tolerance:.2g}"
    rows = f"{len(report.differing):,} differ" if report.differing else "all agree"
    return [
        f"{pluralize(report.images, 'image')} of {report.store} extracted again, "
        f"{pluralize(report.rows, 'row')}: {rows}",
        f"largest relative error: {report.largest_error:.2g}, "
        f"of the reference images {report.reference_error:.2g}; {allowed}",
        f"images changed: {len(report.changed):,}, missing: {len(report.missing):,}, "
        f"unreadable: {len(report.failed):,}",
        *(["versions: " + "; ".join(map(printable, report.other_versions))] if report.other_versions else []),
    ]


def _finite(value: Any) -> Any:
    """Replace infinite numbers by None in a value, because JSON has no infinity."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value

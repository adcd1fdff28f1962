"""``featx curves``."""

from pathlib import Path

import click

from featx.cli.options import check_output
from featx.runtime import pluralize


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The picture, curves.png or .svg.")
@click.pass_context
def command(ctx: click.Context, /, runs: tuple[str, ...], output: str) -> None:
    """Draw validation accuracy by epoch of the fine-tunings whose folders are RUNS, one curve each.

    Transferred beside from scratch shows what transfer brings: a higher start, a higher slope, a higher end.

    \b
    Examples:
      featx curves tuned.featx.finetune scratch.featx.finetune -o curves.png
    """
    from featx.finetuning import draw_curves, read_logs

    check_output(ctx, output)
    draw_curves(read_logs(runs), Path(output))
    click.echo(f"{output}: {pluralize(len(runs), 'curve')}")

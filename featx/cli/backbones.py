"""``featx backbones``: list, download, add and verify backbone weights."""

import click


@click.group("backbones")
def command() -> None:
    """List, download, add and verify backbone weights.

    Example: featx backbones get
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(as_json: bool) -> None:
    """List the known backbones and the backbones in the cache.

    Example: featx backbones list --json
    """
    import dataclasses
    import json

    from featx.backbones import list_backbones

    entries = list_backbones()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        where = entry.path if entry.cached else "not in the cache"
        click.echo(f"{entry.name:<20} {entry.digest[:12] or '-':<12}  {entry.license or '-':<12}  {where}")


@command.command("get")
@click.argument("name", default="oxford")
def get_command(name: str) -> None:
    """Download the backbone NAME (default: oxford) into the cache, unless it is there.

    Example: featx backbones get imagenet1k_v1
    """
    from featx.backbones import load_backbone

    weights = load_backbone(name)
    click.echo(f"{weights.name} {weights.digest} from {weights.source}")


@command.command("add")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--name", metavar="NAME", help="Name for your own weights. Without a name, FILE must hold a known backbone."
)
@click.option(
    "--preprocessing",
    metavar="NAME",
    help="Known backbone whose preprocessing of the input is used (default: oxford).",
)
def add_command(file: str, name: str | None, preprocessing: str | None) -> None:
    """Add the weights in FILE (torch, safetensors, Keras or ONNX) to the cache.

    Example: featx backbones add checkpoint.pth --name mine
    """
    from featx.backbones import add_backbone

    weights = add_backbone(file, name, preprocessing)
    click.echo(f"{weights.name} {weights.digest} from {weights.source}")


@command.command("verify")
@click.argument("name", default="oxford")
def verify_command(name: str) -> None:
    """Check the backbone NAME (default: oxford) in the cache against its digest.

    Example: featx backbones verify oxford
    """
    from featx.backbones import verify_backbone

    weights = verify_backbone(name)
    click.echo(f"{weights.name} {weights.digest} is complete")

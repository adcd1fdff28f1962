"""The group of all commands. Each command is imported when it runs, so ``featx --help`` imports none of them."""

import difflib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from featx.cli.config import read_config, settings_of
from featx.errors import FeatxError, FeatxWarning, SpecError
from featx.files import LIMITS, override_limits
from featx.runtime import Stopped, raise_on_signal
from featx.version import __version__

SECTIONS = {
    "Core": {
        "extract": "Extract the features of images into a store.",
        "fit": "Fit a linear head on a store and save the model.",
        "evaluate": "Score a model on images that it was not fitted on.",
        "predict": "Classify images, folders or stores.",
    },
    "Understand": {
        "probe": "Compare the depths of the backbone: accuracy and cost.",
        "advise": "Recommend feature extraction or fine-tuning for the data.",
        "suspects": "Find wrong labels, duplicates and outliers.",
        "audit": "Measure what common preprocessing mistakes would cost.",
        "explain": "Draw where in an image a model sees its classes.",
        "report": "Write everything known about a model or store as one page.",
    },
    "Improve": {
        "preview": "Draw augmented copies of an image.",
        "finetune": "Train the head and the last layers of the backbone.",
    },
    "Deploy": {
        "export": "Write a model as an ONNX, safetensors or torch.export file.",
    },
    "Stores": {
        "info": "Describe a store or a model.",
        "select": "Write some images of a store as a new store.",
        "merge": "Join several stores into one.",
        "search": "Find the images of a store nearest to a given one.",
        "verify": "Extract a sample again and compare it with the store.",
        "export-features": "Write features as Parquet, npy or CSV.",
    },
    "Scale out": {
        "plan": "Estimate time, disk, memory and cost of an extraction.",
        "assemble": "Join the parts that sharded jobs wrote into a store.",
    },
    "Setup": {
        "backbones": "List, download, add and verify backbone weights.",
        "completion": "Print the completion script for a shell.",
    },
}
COMMANDS = {name: line for commands in SECTIONS.values() for name, line in commands.items()}
SIGNALED = 128
"""If a signal ends a process, shells report this number plus the number of the signal as the exit code."""


class LazyGroup(click.Group):
    """A group that knows the names of its commands, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"featx.cli.{cmd_name.replace('-', '_')}").command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command and apply its settings from the configuration file; suggest a command for a mistyped name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        found, command, rest = super().resolve_command(ctx, args)
        if command and ctx.obj and name in ctx.obj:
            ctx.default_map = {name: settings_of(command, name, ctx.obj[name], ctx)}
        return found, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, without importing them."""
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        After a ``FeatxError``, an error of the system or a lack of memory, print a message and exit with code 1.
        """
        try:
            with _short_warnings():
                return super().invoke(ctx)
        except FeatxError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise  # A closed pipe is not an error of a file. click handles it.
            raise click.ClickException(f"{error.filename} cannot be used: {error.strerror or error}") from error
        except MemoryError as error:
            detail = f" ({error})" if str(error) else ""
            raise click.ClickException(
                f"memory ran out{detail}; finished work is kept: free some memory, or use fewer --workers or a smaller "
                "--batch-size where the command has them, and run the same command again"
            ) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line. Ctrl-C and SIGTERM clean up, and exit with the codes that shells use: 130 and 143."""
        try:
            with raise_on_signal():
                return super().main(*args, **extra)
        except Stopped as stop:
            click.echo("\nStopped. Finished work is kept: run the same command again to resume.", err=True)
            sys.exit(SIGNALED + stop.number)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Show each ``FeatxWarning`` as one line on standard error, without the line of code that Python adds.

    Equal warnings, such as warnings of several folds, are shown once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", FeatxWarning)
        show, shown = warnings.showwarning, set[str]()

        def show_short(message: Warning | str, category: type[Warning], *args: Any, **extra: Any) -> None:
            if issubclass(category, FeatxWarning):
                if str(message) not in shown:
                    click.echo(f"Warning: {message}", err=True)
                shown.add(str(message))
            else:
                show(message, category, *args, **extra)

        warnings.showwarning = show_short
        yield


def _load_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.obj = read_config(Path(path), COMMANDS, ctx)


def _show_log(_ctx: click.Context, _param: click.Parameter, verbosity: int) -> None:
    if verbosity:
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("featx").setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "auto_envvar_prefix": "FEATX",
    },
)
@click.version_option(__version__, prog_name="featx")
@click.option("-v", "--verbose", count=True, expose_value=False, is_eager=True, callback=_show_log,
              help="Show a log on standard error; -vv shows more.")  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False), metavar="FILE", expose_value=False, callback=_load_config,
              help="Read default options from a TOML file, one table per command: [extract] size = 384.")  # fmt: skip
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=SIZE",
    help="Change a limit on the bytes that featx reads for one file, such as weights=6GiB. Names: "
    f"{', '.join(LIMITS)} (see SECURITY.md).",
)
@click.pass_context
def main(ctx: click.Context, limits: tuple[str, ...]) -> None:
    """Turn a folder of images into a trained classifier, in minutes.

    \b
    featx extract photos -o photos.h5            # once: VGG16 features of every image
    featx fit photos.h5 -o photos.featx          # seconds: the best linear head
    featx predict photos.featx new -o new.csv    # class and probability per file

    Every option can also be set by an environment variable, such as FEATX_EXTRACT_SIZE=384, or by --config.
    """
    pairs = [pair.partition("=") for pair in limits]
    try:
        ctx.with_resource(override_limits({name: size for name, _, size in pairs}))
    except SpecError as error:
        raise click.UsageError(str(error), ctx) from None

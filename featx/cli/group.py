"""The command line. A command is imported when it is run, so that ``featx --help`` imports none."""

import sys
from importlib import import_module
from typing import Any

import click

from featx.errors import FeatxError, SpecError
from featx.files import LIMITS, allowing
from featx.runtime import Stopped, raise_on_signal
from featx.version import __version__

COMMANDS = {
    "extract": "Turn a folder of images into a store of features.",
    "plan": "Say what an extraction takes: time, disk, memory, money.",
    "assemble": "Make the store of a run whose parts sharded jobs wrote.",
    "views": "Draw what an augmentation makes of an image.",
    "select": "Write some of a store's images as a store of its own.",
    "merge": "Write the images of several stores as one store.",
    "export-features": "Write features as Parquet, npy, CSV or AnnData.",
    "search": "Find the images of a store nearest to a given one.",
    "info": "Say what a store or a model holds.",
    "verify": "Extract some of a store's images anew, and compare.",
    "probe": "Say how good every depth is, and what it costs.",
    "advise": "Say which way of transfer learning fits the data, and why.",
    "suspects": "Find images to look at: wrong labels, copies, outliers.",
    "audit": "Say what the usual mistakes of preprocessing would cost.",
    "fit": "Fit a linear head on a store and save the model.",
    "evaluate": "Score a model on rows that it was not fitted on.",
    "predict": "Classify images, folders or stores.",
    "explain": "Draw where in an image a model sees its classes.",
    "report": "Write all that is known of a model or a store as one page.",
    "finetune": "Train a model further, the last layers of its backbone too.",
    "curves": "Draw the learning curves of fine-tunings.",
    "export": "Write a model as an ONNX, safetensors or torch.export file.",
    "weights": "Get, add and verify the backbone's weights.",
    "completion": "Print the shell's completion script.",
}
SIGNALED = 128
"""Shells add this to a signal's number for the exit code of what it ended."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and give its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"featx.cli.{cmd_name.replace('-', '_')}").command
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error that featx raises on purpose ends it with its message and exit code 1.

        So does a lack of memory.
        """
        try:
            return super().invoke(ctx)
        except FeatxError as error:
            raise click.ClickException(str(error)) from error
        except MemoryError as error:
            said = f" ({error})" if str(error) else ""
            raise click.ClickException(
                f"memory ran out{said}; what is finished is kept: make room, or use fewer --workers or a smaller "
                "--batch-size where the command has them, and run the same command again"
            ) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; Ctrl-C and SIGTERM end it, all tidied up, with the exit codes that a shell gives them, 130 and 143."""
        try:
            with raise_on_signal():
                return super().main(*args, **extra)
        except Stopped as stop:
            click.echo("\nStopped. What is finished is kept: run the same command again to go on.", err=True)
            sys.exit(SIGNALED + stop.number)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="featx")
@click.option(
    "--allow",
    "sizes",
    multiple=True,
    metavar="NAME=SIZE",
    help="Let a file make featx read more bytes, or fewer, such as weights=6GiB; the limits are "
    f"{', '.join(LIMITS)} (see SECURITY.md).",
)
@click.pass_context
def main(ctx: click.Context, sizes: tuple[str, ...]) -> None:
    """From a folder of images to a trained classifier, in minutes.

    \b
    featx extract photos -o photos.h5            # once: VGG16 features of every image
    featx fit photos.h5 -o photos.featx          # seconds: the best linear head
    featx predict photos.featx new -o new.csv    # class and probability a file
    """
    pairs = [pair.partition("=") for pair in sizes]
    try:
        ctx.with_resource(allowing({name: size for name, _, size in pairs}))
    except SpecError as error:
        raise click.UsageError(str(error), ctx) from None

"""Options that several commands share, and the types of their values."""

import functools
import json
import math
import os
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from featx.backbones import BLOCK_NUMBERS, MIN_SIZE, POOLINGS, parse_blocks, sort_pools
from featx.errors import DataError, ModelError, ModelUnreadable
from featx.files import DECODE_TIMEOUT, check_folder
from featx.runtime import ENGINES, Compute
from featx.spec import COLOR, FILLS, INTERPOLATIONS, RESIZES, TRANSFORMS, ValueRange

AUGMENTATION = ("augment", "fill", "view_seed")
"""The parameters of `augmentation_options`."""
RAY_ONLY = ("ray_address", "cpus_per_worker", "gpus_per_worker")
"""Parameters that have no effect without a Ray cluster."""
WITH_FAILURES = 3
"""Exit code of a command that finished, but could not read some images."""

Command = Callable[..., Any]


class SectionedCommand(click.Command):
    """A command whose ``--help`` lists its options in titled sections, in the order of ``sections``.

    ``sections`` maps titles to the names of parameters. Options in no section come last.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options per section."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        placed = {name for names in self.sections.values() for name in names}
        rest = [name for name in records if name not in placed]
        for title, names in {**self.sections, "Other options": rest}.items():
            if lines := [record for name in names if (record := records[name])]:
                with formatter.section(title):
                    formatter.write_dl(lines)


class Blocks(click.ParamType):  # type: ignore[type-arg]
    """The type of block numbers, such as ``3-5`` or ``1,3,5``."""

    name = "blocks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse block numbers. The message about a wrong value names the option and the command."""
        try:
            return parse_blocks(value)
        except ValueError as error:
            raise click.UsageError(f"{_whose(param, ctx)} {error}", ctx) from None


class Pools(click.ParamType):  # type: ignore[type-arg]
    """The type of names of poolings, such as ``avg`` or ``avg,max``."""

    name = "pools"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Parse names of poolings; the message about a wrong value names the option and the command."""
        try:
            return sort_pools(tuple(value.split(",")) if isinstance(value, str) else tuple(value))
        except ValueError as error:
            raise click.UsageError(f"{_whose(param, ctx)} {error}", ctx) from None


class SplitFolders(click.ParamType):  # type: ignore[type-arg]
    """The type of splits of folders, such as ``Training=train,Testing=test``."""

    name = "split-folders"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Parse pairs of a folder and its split; the message about a wrong value names the option and the command."""
        if isinstance(value, Mapping):
            return dict(value)
        pairs = [pair.rpartition("=") for pair in value.split(",")]
        if wrong := [pair for pair in pairs if not (pair[0].strip() and pair[2].strip())]:
            raise click.UsageError(
                f"{_whose(param, ctx)} must be FOLDER=SPLIT,…, such as Training=train,Testing=test, "
                f"got {''.join(wrong[0])!r}",
                ctx,
            )
        return {folder.strip(): split.strip() for folder, _, split in pairs}


class Limits(click.ParamType):  # type: ignore[type-arg]
    """The type of a range of pixel values: ``auto``, ``dtype`` or ``LOW:HIGH``."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse a range; the message about a wrong value names the option and the command."""
        try:
            return str(ValueRange.parse(value))
        except ValueError as error:
            raise click.UsageError(f"{_whose(param, ctx)} {error}", ctx) from None


class CountOr(click.ParamType):  # type: ignore[type-arg]
    """The type of a whole number of at least 1, or of a word that stands for a value."""

    name = "count"

    def __init__(self, word: str, value: str | None) -> None:
        self.word, self.value = word, value

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        """Parse a number or the word; the message about a wrong value names the option and the command."""
        if value == self.word or value is None:
            return self.value
        if not str(value).isdecimal() or int(value) < 1:
            raise click.UsageError(
                f"{_whose(param, ctx)} must be {self.word} or a whole number from 1, got {value!r}", ctx
            )
        return int(value)


def _whose(param: click.Parameter | None, ctx: click.Context | None) -> str:
    option = param.opts[0] if param else "the option"
    return f"{option} of {ctx.info_name}" if ctx else option


def check_output(ctx: click.Context, output: str | None, *read: str | None, makes_folder: bool = False) -> None:
    """Check that a command may write its output, before it does any work.

    Parameters
    ----------
    output : str or None
        The path that was given to ``--output``. If it is None, nothing is checked.
    read : str or None
        Paths that the command reads.
    makes_folder : bool
        True if the command itself creates the folder of the output when it is missing.

    Raises
    ------
    DataError
        If the command reads the file that it would write, if the folder of the output does not exist, or if the output
        exists as a store or a model and the command has no ``--overwrite``.
    """
    if output is None:
        return
    if not makes_folder:
        check_folder(Path(output), DataError)
    if not Path(output).exists():
        return
    if any(path and Path(path).exists() and Path(output).samefile(path) for path in read):
        raise DataError(f"--output {output} is what {ctx.info_name} reads; choose another file")
    if "overwrite" not in ctx.params and _is_store_or_model(Path(output)):
        raise DataError(
            f"--output {output} is a store or a model, which {ctx.info_name} never replaces; choose another file"
        )


def _is_store_or_model(path: Path) -> bool:
    from featx.models import load_model
    from featx.store import is_store

    try:
        return path.is_file() and (is_store(path) or bool(load_model(path)))
    except ModelUnreadable as error:
        raise DataError(f"--output {path} exists and cannot be read, so it may be a model: {error}") from error
    except ModelError:
        return False


def refuse_given(ctx: click.Context, names: Container[str | None], what: str) -> None:
    """Raise ``UsageError`` if a parameter in ``names`` was given, because it has no effect without ``what``."""
    for parameter in ctx.command.params:
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} of {ctx.info_name} has no effect without {what}; add that, or leave it out", ctx
            )


def gather(
    into: str, build: Callable[..., Any], *options: Callable[[Command], Command]
) -> Callable[[Command], Command]:
    """Add options to a command. ``build`` combines their values into one value for the parameter ``into``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*args: Any, **values: Any) -> Any:
            given = {name: values.pop(name) for name in names}
            return command(*args, **{into: build(**given)}, **values)

        before = len(getattr(wrapper, "__click_params__", ()))
        for option in reversed(options):
            option(wrapper)
        added = wrapper.__click_params__[before:]  # type: ignore[attr-defined]
        names = [param.name for param in added if param.expose_value]
        return wrapper

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress bar and no summary.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
weights_option = click.option("--weights", type=click.Path(), metavar="FILE",
                              help="Weights file to use instead of the known sources.")  # fmt: skip
root_option = click.option("--root", type=click.Path(file_okay=False), metavar="FOLDER",
                           help="Folder or URL that the paths of a manifest are relative to (default: the folder "
                                "of the manifest).")  # fmt: skip
max_pixels_option = click.option(
    "--max-pixels", type=click.IntRange(min=1), metavar="N",
    help="Refuse images with more pixels (default: Pillow's limit, 179 million).",
)  # fmt: skip
split_column_option = click.option("--split-column", metavar="NAME",
                                   help="Use the training rows of this split column.")  # fmt: skip
folds_option = click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, metavar="N",
                            help="Number of folds of the cross-validation.")  # fmt: skip
repeats_option = click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                              help="Number of times the cross-validation is repeated.")  # fmt: skip
test_size_option = click.option(
    "--test-size", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="FRACTION",
    help="Fraction of the images to hold out, if no split column is used.",
)  # fmt: skip
engine_option = click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True,
                             help="Library that runs the backbone; auto takes the fastest installed one.")  # fmt: skip
device_option = click.option("--device", default="auto", show_default=True, metavar="NAME",
                             help="Device: auto, cpu, cuda, cuda:1 or mps.")  # fmt: skip
batch_size_option = click.option("--batch-size", type=CountOr("auto", None), default="auto", show_default=True,
                                 help="Images per forward pass. It is halved when memory runs out.")  # fmt: skip
workers_option = click.option("--workers", type=click.IntRange(min=1), metavar="N",
                              help="Threads or processes that decode images (default: one per core).")  # fmt: skip
blocks_option = click.option("--blocks", type=Blocks(), default=BLOCK_NUMBERS,
                             help="Blocks to store features of: 3-5 or 1,4 (default: all).")  # fmt: skip
pools_option = click.option("--pools", type=Pools(), default="avg", show_default=True,
                            help="Poolings, separated by commas: " +
                                 ", ".join(f"{name} ({pooling.summary})" for name, pooling in POOLINGS.items()) +
                                 ", cov16 to cov256 (root of the covariance of projected channels).")  # fmt: skip
size_option = click.option("--size", type=click.IntRange(min=MIN_SIZE), default=224, show_default=True,
                           metavar="PIXELS", help="Side of the square that images are resized to.")  # fmt: skip
resize_option = click.option("--resize", type=click.Choice(RESIZES), default="squash", show_default=True,
                             help="How to fit an image into --size.")  # fmt: skip
interpolation_option = click.option("--interpolation", type=click.Choice(INTERPOLATIONS), default="bilinear",
                                    show_default=True, help="Filter of the resizing.")  # fmt: skip
backbone_option = click.option("--backbone", default="oxford", show_default=True, metavar="NAME",
                               help="Name of the weights; see featx backbones list.")  # fmt: skip


def seed_option(what: str) -> Callable[[Command], Command]:
    """Make the option ``--seed`` for the seed of ``what``. numpy and scikit-learn accept every allowed value."""
    numbers = click.IntRange(0, 2**32 - 1)
    return click.option("--seed", type=numbers, default=0, show_default=True, metavar="N", help=f"Seed of {what}.")


def augmentation_options(augment: str | None, default: str) -> Callable[[Command], Command]:
    """Make the options of augmentation. The help describes the default value ``augment`` by the text ``default``."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--seed", "view_seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
                         help="Seed of the augmentation."),
            click.option("--fill", type=click.Choice(FILLS), default="reflect", show_default=True,
                         help="What augmented copies show outside the image."),
            click.option("--augment", default=augment, metavar="TRANSFORMS",
                         help="Transforms of augmented copies, such as flip,rotate=30,scale=0.8:1.2. Available: "
                              f"{', '.join([*TRANSFORMS, COLOR])} (default: {default})."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def _set_decode_timeout(ctx: click.Context, param: click.Parameter, seconds: float | None) -> None:
    """Put the timeout into the environment, which every process that decodes images for the command inherits."""
    if seconds is not None and not seconds < math.inf:
        raise click.BadParameter(f"must be a finite number of seconds above 0, got {seconds}", ctx, param)
    before = {DECODE_TIMEOUT: os.environ.get(DECODE_TIMEOUT, "")}
    if seconds is not None:
        os.environ[DECODE_TIMEOUT] = str(seconds)
        ctx.call_on_close(functools.partial(os.environ.update, before))


decode_timeout_option = click.option(
    "--decode-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", envvar=DECODE_TIMEOUT,
    expose_value=False, callback=_set_decode_timeout,
    help="Decode in processes; an image that takes longer fails (default: decode in threads, which is faster).",
)  # fmt: skip


def compute_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add the options of how a command runs, as one parameter ``compute``. ``--quiet`` hides the progress bar."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def build(*args: Any, compute: dict[str, Any], **values: Any) -> Any:
            if compute.get("executor") == "local":
                refuse_given(click.get_current_context(), RAY_ONLY, "--executor ray")
            return command(*args, compute=Compute(**compute, progress=not values.get("quiet", True)), **values)

        return gather("compute", dict, *options)(build)

    return decorate


RUN = (engine_option, device_option, batch_size_option, workers_option, decode_timeout_option, max_pixels_option)
"""The options of every command that runs the backbone over images."""


def listing_options(**fields: Any) -> Any:
    """Make `ListingOptions` from the values of `LISTING`."""
    from featx.images import ListingOptions

    return ListingOptions(**fields)


LISTING = (
    click.option("--layout", type=click.Choice(("auto", "classes", "splits", "flat")), default="auto",
                 show_default=True,
                 help="What sub-folders are: classes; splits such as train and test, with class folders in them; or "
                      "neither (flat). auto decides by their names."),
    click.option("--split-folders", type=SplitFolders(), metavar="FOLDER=SPLIT,…",
                 help="Split of each sub-folder, such as Training=train,Testing=test."),
    click.option("--label-column", metavar="NAME", help="Column of a table with the labels (default: label)."),
    click.option("--group-column", metavar="NAME",
                 help="Column of a table with equal values for images that belong together, such as images of one "
                      "patient; kept as the column group."),
)  # fmt: skip
"""The options that say how to read a source of images; `listing_options` takes their values."""


def echo_json(value: Any) -> None:
    """Print a value as indented JSON; NaN is an error."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def printable(text: str) -> str:
    """Return a file name in a form that a terminal can show: one line, with escapes for bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")

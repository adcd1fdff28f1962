"""Options and types that several commands share."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Container
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from featx.backbones import BLOCK_NUMBERS, MIN_SIZE, POOLS, parse_blocks
from featx.errors import DataError, ModelError
from featx.files import DECODE_TIMEOUT, check_folder
from featx.runtime import ENGINES
from featx.spec import COLOR, FILLS, INTERPOLATIONS, PARTS, RESIZES

OF_VIEWS = ("augment", "fill", "view_seed")
"""The parameters of `view_options`."""
T = TypeVar("T")
WITH_FAILURES = 3
"""Exit code of a command that is done, but for images that could not be read."""


class Blocks(click.ParamType):  # type: ignore[type-arg]
    """Block numbers: ``3-5``, ``1,3,5``."""

    name = "blocks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse; what is wrong names the option and the command."""
        try:
            return parse_blocks(value)
        except ValueError as error:
            raise click.UsageError(f"{_whose(param, ctx)} {error}", ctx) from None


class Pools(click.ParamType):  # type: ignore[type-arg]
    """Pool names: ``avg``, ``avg,max``."""

    name = "pools"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Parse; what is wrong names the option and the command."""
        pools = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        if wrong := [pool for pool in pools if pool not in POOLS]:
            raise click.UsageError(f"{_whose(param, ctx)} must be among {', '.join(POOLS)}, got {wrong[0]!r}", ctx)
        return pools


def _whose(param: click.Parameter | None, ctx: click.Context | None) -> str:
    option = param.opts[0] if param else "the option"
    return f"{option} of {ctx.info_name}" if ctx else option


def check_output(ctx: click.Context, output: str | None, *read: str | None, makes_folder: bool = False) -> None:
    """Raise ``DataError``, before any work, if a command would write over what it reads, or into no folder.

    Nor does one without ``--overwrite`` replace a store or a model. ``makes_folder``: it makes the folder itself.
    """
    if output is None:
        return
    if not makes_folder:
        check_folder(Path(output), DataError)
    if not Path(output).exists():
        return
    if any(path and Path(path).exists() and Path(output).samefile(path) for path in read):
        raise DataError(f"--output {output} is what {ctx.info_name} reads; choose another")
    if "overwrite" not in ctx.params and _is_store_or_model(Path(output)):
        raise DataError(f"--output {output} is a store or a model, and {ctx.info_name} replaces none; choose another")


def _is_store_or_model(path: Path) -> bool:
    from featx.models import load_model
    from featx.store import is_store

    with suppress(ModelError):
        return path.is_file() and (is_store(path) or bool(load_model(path)))
    return False


def refuse_given(ctx: click.Context, names: Container[str | None], what: str) -> None:
    """Raise ``UsageError`` if one of these parameters is given, which would do nothing without ``what``."""
    for parameter in ctx.command.params:
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} of {ctx.info_name} is for {what}; give that too, or leave it out", ctx
            )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``: the result as JSON on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def quiet_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--quiet``: no progress bar and no summary."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")(command)


def split_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which rows of a store are looked at: those to train on."""
    share = click.FloatRange(0, 1, min_open=True, max_open=True)
    command = click.option("--test-size", type=share, metavar="SHARE",
                           help="Share of the rows to leave out, instead of a split column.")(command)  # fmt: skip
    what = "Split column whose training rows are used."
    return click.option("--split-column", "column", metavar="NAME", help=what)(command)


def seed_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--seed``: what numpy's and scikit-learn's random numbers take; ``what`` says of which."""
    numbers = click.IntRange(0, 2**32 - 1)
    return click.option("--seed", type=numbers, default=0, show_default=True, metavar="N", help=what)


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a plain picture's features are: the fields of a spec that change their values."""
    for option in (
        click.option("--weights", type=click.Path(), help="A weights file to take instead of the known sources."),
        click.option("--backbone", default="oxford", show_default=True,
                     help="Name of the weights; see: featx backbones list."),
        click.option("--interpolation", type=click.Choice(INTERPOLATIONS), default="bilinear", show_default=True),
        click.option("--resize", type=click.Choice(RESIZES), default="squash", show_default=True,
                     help="How to get there."),
        click.option("--size", type=click.IntRange(min=MIN_SIZE), default=224, show_default=True,
                     help="Image side, pixels."),
        click.option("--pools", type=Pools(), default="avg", show_default=True,
                     help="How to pool: avg, max, gem, flat."),
        click.option("--blocks", type=Blocks(), default=BLOCK_NUMBERS,
                     help="Blocks to tap: 3-5 or 1,4 (default: all)."),
    ):  # fmt: skip
        command = option(command)
    return command


def view_options(augment: str | None, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What augmented views go through; by default ``augment``, in words ``default``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--seed", "view_seed", type=click.IntRange(min=0), default=0, show_default=True,
                         help="Of the augmented views' random numbers."),
            click.option("--fill", type=click.Choice(FILLS), default="reflect", show_default=True,
                         help="What augmented views show beyond their picture."),
            click.option("--augment", default=augment, metavar="PARTS",
                         help="What augmented views go through, such as flip,rotate=30,scale=0.8:1.2; parts are "
                              f"{', '.join([*PARTS, COLOR])} (default: {default})."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What runs the backbone, and where."""
    command = click.option("--device", default="auto", show_default=True, metavar="NAME",
                           help="auto, cpu, cuda, cuda:1 or mps.")(command)  # fmt: skip
    what = "What runs the backbone; auto is ncnn or OpenVINO on a CPU, whichever is installed and faster there."
    return click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help=what)(command)


def max_pixels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The largest image that is decoded."""
    what = "Refuse images of more pixels (default: Pillow's own limit, 179 million)."
    return click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help=what)(command)


def decode_timeout_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """How long one image may take; passed on by the environment, which reaches all that decodes for the command."""
    what = "Decode in processes, and end one whose image takes longer (default: in threads, which is faster)."
    return click.option("--decode-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help=what,
                        envvar=DECODE_TIMEOUT, expose_value=False, callback=_pass_on)(command)  # fmt: skip


def _pass_on(ctx: click.Context, param: click.Parameter, seconds: float | None) -> None:
    if seconds is not None and not seconds < math.inf:
        raise click.BadParameter(f"must be a finite number of seconds above 0, got {seconds}", ctx, param)
    before = {DECODE_TIMEOUT: os.environ.get(DECODE_TIMEOUT, "")}
    if seconds is not None:
        os.environ[DECODE_TIMEOUT] = str(seconds)
        ctx.call_on_close(partial(os.environ.update, before))


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where and how the backbone runs: nothing that changes a feature's value."""
    for option in (
        max_pixels_option,
        decode_timeout_option,
        click.option("--workers", type=click.IntRange(min=1), metavar="N",
                     help="Threads that decode images, beside a GPU processes (default: one a core)."),
        click.option("--batch-size", type=CountOr("auto", None), default="auto", show_default=True,
                     help="Images a pass; halves itself when memory runs out."),
    ):  # fmt: skip
        command = option(command)
    return engine_options(command)


class CountOr(click.ParamType):  # type: ignore[type-arg]
    """A whole number from 1, or a word, which stands for a value."""

    name = "count"

    def __init__(self, word: str, value: str | None) -> None:
        self.word, self.value = word, value

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        """Parse; what is wrong names the option and the command."""
        if value == self.word or value is None:
            return self.value
        if not str(value).isdecimal() or int(value) < 1:
            raise click.UsageError(
                f"{_whose(param, ctx)} must be {self.word} or a whole number from 1, got {value!r}", ctx
            )
        return int(value)


def pop_fields(kind: type[T], options: dict[str, Any]) -> T:
    """Make a dataclass from the options named as its fields, and take them out of ``options``."""
    names = [field.name for field in dataclasses.fields(kind) if field.name in options]  # type: ignore[arg-type]
    return kind(**{name: options.pop(name) for name in names})


def echo_json(value: Any) -> None:
    """Print a value as indented JSON, which knows no NaN."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def printable(text: str) -> str:
    """A file's name as a terminal can show it: one line, and bytes that are no UTF-8 escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")

"""What a person sees in a terminal or notebook: progress bars, counts with nouns, and short displays of objects."""

import dataclasses
import html
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def progress_bar(total: int, unit: str, task: str, *, shown: bool) -> Any:
    """Make a tqdm bar that shows the rate and the time left, on a terminal or in a notebook.

    Parameters
    ----------
    total : int
        Number of units to do.
    unit, task : str
        The noun for one unit, such as ``image``, and the label in front of the bar.
    shown : bool
        If false, there is no bar. If true, it appears after one second, unless standard error is redirected.
    """
    # tqdm imports asyncio, which commands without a bar do not need.
    from tqdm.auto import tqdm

    # The standard error of a notebook is not a terminal, but text bars work there.
    hide = not shown or (False if "ipykernel" in sys.modules else None)
    return tqdm(total=total, unit=unit, desc=task, delay=1, disable=hide)


def no_progress(count: int) -> None:
    """Do nothing when ``count`` more units are done. This is the default for reporting progress."""


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """Format a count with its noun: ``1 image``, ``2,000 images``. By default, ``plural`` is ``singular`` with an s."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def short_repr(options: Any) -> str:
    """Return a repr of a dataclass that shows only the fields that differ from their defaults."""
    changed = [
        f"{field.name}={value!r}"
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    ]
    return f"{type(options).__name__}({', '.join(changed)})"


def html_table(title: str, facts: Mapping[str, object]) -> str:
    """Return an HTML table for a notebook: a title and one row per fact. Every text is escaped."""
    rows = "".join(
        f'<tr><th style="text-align:left">{_escape(name)}</th><td style="text-align:left">{_escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div><strong>{_escape(title)}</strong><table>{rows}</table></div>"


def _escape(value: object) -> str:
    # File and class names may hold bytes that are not UTF-8, which a notebook cannot store.
    return html.escape(str(value).encode("utf-8", "replace").decode())


def shorten_list(names: Sequence[str], most: int = 5) -> str:
    """Join names with commas. If there are more than ``most`` names, show only the first ones and the last one.

    Characters that a terminal cannot print are escaped.
    """
    shown = [_printable(name) for name in (names if len(names) <= most else [*names[: most - 1], names[-1]])]
    if len(names) > most:
        shown[-1] = f"… {shown[-1]}"
    return ", ".join(shown)


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)

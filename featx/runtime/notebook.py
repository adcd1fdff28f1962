"""Short displays of objects for terminals and notebooks."""

import html
from collections.abc import Mapping, Sequence


def html_table(title: str, facts: Mapping[str, object]) -> str:
    """Return an HTML table for a notebook: a title and one row per fact; every text is escaped."""
    rows = "".join(
        f'<tr><th style="text-align:left">{_escape(name)}</th><td style="text-align:left">{_escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div><strong>{_escape(title)}</strong><table>{rows}</table></div>"


def _escape(value: object) -> str:
    # File and class names may hold bytes that are not UTF-8, which a notebook cannot store.
    return html.escape(str(value).encode("utf-8", "replace").decode())


def shorten_list(names: Sequence[str], most: int = 5) -> str:
    """Return names separated by commas; of more than ``most`` names the first ones and the last.

    Characters that a terminal cannot print are escaped.
    """
    shown = [_printable(name) for name in (names if len(names) <= most else [*names[: most - 1], names[-1]])]
    if len(names) > most:
        shown[-1] = f"… {shown[-1]}"
    return ", ".join(shown)


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)

"""One section of a report: what was found, without a word on how it looks."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A number for the head of the page."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Section:
    """A section: its anchor, which is its template's name, its title, and the finding in a sentence.

    ``data`` is what its template shows, ``images`` are the numbers of the images that it shows, and ``figure`` is what
    the head of the page shows of it. A ``note`` says why there is nothing to show, and what would change that.
    """

    name: str
    title: str
    lead: str = ""
    data: Any = None
    images: frozenset[int] = frozenset()
    figure: Figure | None = None
    note: str = ""


def sentence(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage, ``93.8 %``, which is not broken at a line's end."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"

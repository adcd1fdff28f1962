"""One section of a report: what was found, without a word on how it looks."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """A section: its anchor, which is its template's name, its title, and the finding in a sentence.

    ``data`` is what its template shows, and ``images`` are the numbers of the images that it shows. A ``note`` says
    why there is nothing to show, and what would change that.
    """

    name: str
    title: str
    lead: str = ""
    data: Any = None
    images: frozenset[int] = field(default=frozenset())
    note: str = ""


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage: ``93.8 %``."""
    return f"{100 * value:.{digits}f} %"


@dataclass(frozen=True)
class Figure:
    """A number for the head of the page."""

    name: str
    value: str
    more: str = ""

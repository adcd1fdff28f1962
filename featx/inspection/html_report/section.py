"""A section of the report page: its findings, without their layout."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Headline:
    """A number at the top of the page, with its name and a remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes
    ----------
    lead : str
        The finding, in one or two sentences.
    data : object
        The values that the template ``sections/NAME.html`` shows.
    images : frozenset of int
        Numbers of the images that the section shows.
    headline : Headline, optional
        The number of this section that the top of the page shows.
    name, title : str
        The anchor and the heading.
    note : str
        The reason why the section has nothing to show, and how to change this. Empty if it has something to show.
    """

    lead: str = ""
    data: Any = None
    images: frozenset[int] = frozenset()
    headline: Headline | None = None
    name: str = ""
    title: str = ""
    note: str = ""


def sentence(text: str) -> str:
    """Make the first letter of a text a capital letter."""
    return text[:1].upper() + text[1:]


def percent(value: float, digits: int = 1) -> str:
    """Format a share as ``93.8 %``, with a no-break space."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"

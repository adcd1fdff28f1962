"""A section of the report page: what was found, apart from how it looks."""

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
        What the template ``sections/NAME.html`` shows.
    images : frozenset of int
        Numbers of the images that the section shows.
    headline : Headline, optional
        What the top of the page shows of this section.
    name, title : str
        The anchor and the heading.
    note : str
        Why the section is empty, and how to fill it; empty if there is something to show.
    """

    lead: str = ""
    data: Any = None
    images: frozenset[int] = frozenset()
    headline: Headline | None = None
    name: str = ""
    title: str = ""
    note: str = ""


def sentence(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def percent(value: float, digits: int = 1) -> str:
    """Format a share as ``93.8 %``, with a no-break space."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"

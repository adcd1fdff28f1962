"""Put a matplotlib figure into an HTML page as an SVG element that follows the page's colors."""

import re
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from featx.drawing.figures import FAINT, INK, PAPER, RULE, SERIES, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOR_VARIABLES = {
    INK: "--ink", SOFT: "--soft", RULE: "--rule", FAINT: "--faint", PAPER: "--paper",
    **{color: f"--series-{number}" for number, color in enumerate(SERIES)},
}  # fmt: skip
"""The CSS variable of the page for each color of a figure."""


def figure_to_svg(figure: "Figure", name: str, title: str) -> str:
    """Convert a figure to an SVG element for an HTML page with a light and a dark theme.

    Each color of the figure style is replaced by the CSS variable of that color. Text uses the font of the page. Inline
    styles become attributes, because the page's content security policy forbids inline styles. Equal figures give equal
    SVG text.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        A name that is unique within the page. The ids of shared shapes are made from it.
    title : str
        What the figure shows, for screen readers.
    """
    import matplotlib as mpl

    buffer = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    used = set(re.findall(r"#([\w.-]+)", buffer.getvalue().decode()))
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag in (f"{{{SVG}}}style", f"{{{SVG}}}metadata"):
                parent.remove(child)
        # Remove ids that nothing refers to, such as axes_1. The next figure of the page has the same ids.
        if parent.attrib.get("id", "") not in used:
            parent.attrib.pop("id", None)
        for key, value in _attributes(parent.attrib.pop("style", "")).items():
            parent.set(key, value)
    for size in ("width", "height"):
        del root.attrib[size]
    heading = ElementTree.Element(f"{{{SVG}}}title", id=f"{name}-title")
    heading.text = title
    root.insert(0, heading)
    for key, value in {"class": "plot", "role": "img", "aria-labelledby": f"{name}-title"}.items():
        root.set(key, value)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _attributes(style: str) -> dict[str, str]:
    """Convert the declarations of a style to attributes of SVG elements."""
    pairs = [declaration.split(":", 1) for declaration in style.split(";") if ":" in declaration]
    found = {name.strip(): value.strip() for name, value in pairs}
    if font := found.pop("font", ""):
        size = re.search(r"([\d.]+)px", font)
        found |= {"font-size": size[1]} if size else {}
        found |= {"font-weight": "bold"} if re.search(r"\b(bold|700)\b", font) else {}
    found.pop("font-family", None)
    return {
        name: f"var({COLOR_VARIABLES[value]})" if value in COLOR_VARIABLES else value for name, value in found.items()
    }

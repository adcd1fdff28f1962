"""From sections to a page: one file of HTML that holds its style, its script and its pictures."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from featx.inspection.html_report.plot import INTERVAL, linear
from featx.inspection.html_report.section import Section, percent, sentence
from featx.runtime import import_optional
from featx.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src {style}; script-src {script}"
)
"""What the page may do: show pictures that it holds, in its own style and by its own script, and nothing else."""
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of neighboring classes: no two of many are near."""
HUES = 400


def load_templates() -> "Environment":
    """What `render` takes; ``EngineError`` if jinja2 is not installed."""
    jinja2 = import_optional("jinja2", "report", "report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featx.inspection.html_report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(percent=_percent, sentence=sentence, score=lambda value: f"{value:.4f}")
    environment.globals["unit"] = linear("", [0, 1], 0, INTERVAL)
    return environment


def render(
    environment: "Environment",
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    images: Mapping[int, Mapping[str, str]],
) -> str:
    """The page; text from outside is escaped wherever it stands."""
    used = [round(GOLDEN_ANGLE * code % 360, 1) for code in range(HUES)]
    style, script = (environment.get_template(name).render(hues=used) for name in ("style.css", "script.js"))
    page: str = environment.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, images=images,
        pictures=any("copy" in image for image in images.values()), style=style, script=script,
        policy=POLICY.format(style=_hash(style), script=_hash(script)), made=date.today().isoformat(),
        version=__version__,
    )  # fmt: skip
    return page


def _percent(value: Any, digits: int = 1) -> str:
    return "–" if value is None else percent(float(value), digits)


def _hash(text: str) -> str:
    """What a policy calls a style or a script, so that it allows no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

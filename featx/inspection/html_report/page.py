"""Turn sections into one HTML file that holds its style, its script and its images."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError
from featx.images import load_thumbnail
from featx.inspection.html_report.section import Section, percent, sentence
from featx.runtime import import_optional
from featx.spec import ValueRange
from featx.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src {style}; script-src {script}"
)
"""Content security policy: the page shows the images that it holds and runs its own script, and loads nothing."""
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of consecutive classes: with this angle, even many hues are all different."""
HUES = 400
QUALITY = 60
"""WebP quality of the images in the page."""


def load_templates() -> "Environment":
    """Return the templates that `render` takes.

    Raises
    ------
    EngineError
        If jinja2 is not installed.
    """
    jinja2 = import_optional("jinja2", "report", "report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featx.inspection.html_report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(percent=_percent_or_dash, sentence=sentence, score=lambda value: f"{value:.4f}")
    return environment


def render(
    environment: "Environment",
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    images: Mapping[int, Mapping[str, str]],
) -> str:
    """Return the page as HTML. All names of files and classes are escaped."""
    hues = [round(GOLDEN_ANGLE * code % 360, 1) for code in range(HUES)]
    style, script = (environment.get_template(name).render(hues=hues) for name in ("style.css", "script.js"))
    page: str = environment.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, images=images,
        has_thumbnails=any("copy" in image for image in images.values()), style=style, script=script,
        policy=POLICY.format(style=_policy_hash(style), script=_policy_hash(script)), today=date.today().isoformat(),
        version=__version__,
    )  # fmt: skip
    return page


def encode_thumbnails(root: Path, paths: Mapping[int, str], value_range: ValueRange) -> dict[int, str]:
    """Return each image as a small WebP in base64, by image number. Images that cannot be read are left out.

    ``value_range`` says which values are black and white in images of more than 8 bits.
    """
    with ThreadPoolExecutor(cpu_count()) as pool:
        copies = pool.map(lambda path: _encode_thumbnail(root, path, value_range), paths.values())
        return {number: copy for number, copy in zip(paths, copies, strict=True) if copy}


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return pixels, uint8 (height, width, 3), as a URI that contains the image."""
    return f"data:image/webp;base64,{_encode_webp(Image.fromarray(pixels))}"


def _encode_thumbnail(root: Path, path: str, value_range: ValueRange) -> str:
    try:
        return _encode_webp(load_thumbnail(root, path, value_range))
    except (OSError, ImageError):
        return ""


def _encode_webp(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _percent_or_dash(value: Any, digits: int = 1) -> str:
    return "–" if value is None else percent(float(value), digits)


def _policy_hash(text: str) -> str:
    """Return the hash of a style or script. With this hash, the content security policy allows only this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

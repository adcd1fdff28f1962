"""Configure Sphinx, which builds the documentation site (``make docs``). It needs no network."""

import logging
import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx

from featx.version import __version__

HERE = Path(__file__).parent
MADE = HERE / "made"
sys.path.insert(0, str(HERE))
# a11y_pygments, which the theme imports, sets the root logger to INFO: without this line every build prints our log.
logging.getLogger("featx").setLevel(logging.WARNING)

project = "featx"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["made/*.rst"]
suppress_warnings = ["ref.python"]  # a word such as "paths" must not become a link to an attribute with this name
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
smartquotes = False  # keeps the two hyphens of "--size"
napoleon_google_docstring = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = f"featx {version}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Register two steps: draw the pictures before Sphinx reads the pages, and run the commands of a page."""
    app.connect("builder-inited", draw_pictures)
    app.connect("source-read", run_commands)


def draw_pictures(_app: Sphinx) -> None:
    """Draw the pictures of ``PICTURES``, except those that are newer than the code that draws them."""
    from pictures import PICTURES

    MADE.mkdir(exist_ok=True)
    code = (HERE / "pictures.py").stat().st_mtime
    for name, draw in PICTURES.items():
        path = MADE / name
        if not path.exists() or path.stat().st_mtime < code:
            draw(path)


def run_commands(_app: Sphinx, name: str, source: list[str]) -> None:
    """Run the commands of a page and insert their output below them, if the page starts with ``RUN``."""
    from live_pages import RUN, copy_pictures, run_page, with_output

    text = source[0]
    if not text.startswith(RUN):
        return
    with tempfile.TemporaryDirectory() as folder:
        outputs = run_page(text, Path(folder))
        copy_pictures(Path(folder), MADE / Path(name).name)
    source[0] = with_output(text, outputs).removeprefix(RUN)

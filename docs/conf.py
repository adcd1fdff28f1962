"""Build the documentation site without a network: ``make docs``."""

import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx

from featx.version import __version__

HERE = Path(__file__).parent
MADE = HERE / "made"
sys.path.insert(0, str(HERE))

project = "featx"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["made/*.rst"]
suppress_warnings = ["ref.python"]  # "paths" in prose must not become a link to some attribute of that name
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
smartquotes = False  # keeps "--size" as a person types it
napoleon_google_docstring = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = f"featx {version}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Draw the pictures before the pages are read, and run the pages that have commands."""
    app.connect("builder-inited", draw_pictures)
    app.connect("source-read", run_commands)


def draw_pictures(_app: Sphinx) -> None:
    """Draw every picture that is not the output of a page, unless it is newer than the code that draws it."""
    from pictures import PICTURES

    MADE.mkdir(exist_ok=True)
    code = (HERE / "pictures.py").stat().st_mtime
    for name, draw in PICTURES.items():
        path = MADE / name
        if not path.exists() or path.stat().st_mtime < code:
            draw(path)


def run_commands(_app: Sphinx, name: str, source: list[str]) -> None:
    """Put the output of a page's commands below them, if the page asks for it."""
    from live_pages import RUN, copy_pictures, run_page, with_output

    text = source[0]
    if not text.startswith(RUN):
        return
    with tempfile.TemporaryDirectory() as folder:
        outputs = run_page(text, Path(folder))
        copy_pictures(Path(folder), MADE / Path(name).name)
    source[0] = with_output(text, outputs).removeprefix(RUN)

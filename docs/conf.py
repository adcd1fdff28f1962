"""The documentation site: ``make docs`` builds it, strictly and without a network."""

import sys
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx

from featx.cli.group import COMMANDS
from featx.version import __version__

HERE = Path(__file__).parent
MADE = HERE / "made"
sys.path.insert(0, str(HERE))
MODULES = (
    "load",
    "model",
    "features",
    "spec",
    "store",
    "heads",
    "images",
    "bridge",
    "weights",
    "augment",
    "limits",
    "errors",
)
"""Public, and no verb."""

project = "featx"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["made/*.rst"]
suppress_warnings = ["ref.python"]  # "paths" in prose is no attribute that could be meant
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
smartquotes = False  # "--size" stays what a person types
napoleon_google_docstring = False
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"featx {version}"
html_copy_source = False


def setup(app: Sphinx) -> None:
    """What is made, and not written, is made before the pages are read."""
    app.connect("builder-inited", make)


def make(_app: Sphinx) -> None:
    """The gallery's pictures, and a list of every module that is a verb, which a new command joins by itself."""
    from gallery import PICTURES

    MADE.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw(MADE / name)
    verbs = [name for name in (each.replace("-", "_") for each in COMMANDS) if find_spec(f"featx.{name}")]
    for name, modules in {"verbs": verbs, "modules": [name for name in MODULES if name not in verbs]}.items():
        parts = [f"featx.{each}\n{'-' * 40}\n\n.. automodule:: featx.{each}\n   :members:\n" for each in modules]
        (MADE / f"{name}.rst").write_text("\n".join(parts))

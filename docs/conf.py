"""Sphinx: `bash launch/docs.sh` builds the site; a warning is an error."""

import pathlib
import re

from sphinx.application import Sphinx

project = "dga_jax"
author = "the authors of dga_jax"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "evidence/*/table.md"]  # pages hold their tables

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook runs in the tests

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True

highlight_language = "none"
html_theme = "furo"
html_title = "dga_jax"


def _links_to_code(_: Sphinx, docname: str, source: list[str]) -> None:
    """Links out of the documentation become what they name: there is no such page."""
    root = pathlib.Path(__file__).parent

    def link(match: re.Match[str]) -> str:
        target = (root / docname).parent / match[2].partition("#")[0]
        inside = target.resolve().is_relative_to(root)
        page = target.suffix in {".md", ".png", ".svg", ".ipynb"}
        return match[0] if inside and page else match[1]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)", link, source[0])


def setup(app: Sphinx) -> None:
    """Registers what this file adds to Sphinx."""
    app.connect("source-read", _links_to_code)

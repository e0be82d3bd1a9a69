"""The site: `make docs` builds it strictly into site/, from these pages and from docstrings. It needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_site"))

import boundseg

project = "boundseg"
author = "The boundseg authors"
copyright = author
release = version = boundseg.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "mathml"]
exclude_patterns = ["_site", "**/.ipynb_checkpoints"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are run by the tests

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # annotations hold shapes such as "B *space", which are no reStructuredText
add_module_names = False
python_use_unqualified_type_names = True

# code blocks hold console output, YAML with placeholders and words of the shell
suppress_warnings = ["misc.highlighting_failure", "myst.xref_ambiguous"]
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "boundseg"
html_math_renderer = "mathml"
html_static_path = ["_site/static"]
html_css_files = ["boundseg.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00557f", "color-brand-content": "#00557f"},
    "dark_css_variables": {"color-brand-primary": "#7cc4ec", "color-brand-content": "#7cc4ec"},
}
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

"""Formulas as MathML, which browsers show by themselves: no script, no fonts, no network."""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def _mathml(latex: str, display: str) -> str:
    # MathML has no name of its own for these
    latex = re.sub(r"\\operatorname\*?\{([^}]*)\}", r"\\mathrm{\1}", latex)
    return str(convert(latex, display=display))


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    formulas = [part for part in re.split(r"\n\s*\n", node.astext().strip()) if part.strip()]
    shown = "\n".join(
        f'<div class="math" title="{html.escape(latex)}">{_mathml(latex, "block")}</div>' for latex in formulas
    )
    self.body.append(f"{shown}\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))  # type: ignore[arg-type]
    return {"parallel_read_safe": True, "parallel_write_safe": True}

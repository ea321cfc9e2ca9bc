"""The domains of a store as an HTML page with a treemap; needs no other file."""

import html
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import squarify

from dga_jax.data.store import Store
from dga_jax.files import written

if TYPE_CHECKING:
    from dga_jax.prepare.commands.describe import Description

_WIDTH, _HEIGHT = 1200, 640
_GOLDEN_ANGLE = 137.508  # degrees: neighbours in any order get unlike hues
_LETTER = 6.2  # pixels of width of a small letter
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1200px;
       padding: 0 1em; color: #222; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; pointer-events: none; }
section { border-top: 1px solid #ddd; padding: .4em 0 .6em; }
h2 { font-size: 1em; margin: .3em 0; } h2 small { font-weight: normal; color: #666; }
.terms { color: #04724d; } li { color: #444; overflow-wrap: anywhere; }
"""


def write(
    path: pathlib.Path, store: Store, descriptions: Sequence["Description"]
) -> None:
    """Writes the page, whole or not at all.

    Raises:
      UserError: it cannot be written there.
    """
    ordered = sorted(descriptions, key=lambda d: -d.tokens)
    title = f"{store.path.name}: {len(ordered)} domains"
    tokens = sum(d.tokens for d in ordered)
    content = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><meta charset="utf-8">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<h1>{html.escape(title)}</h1>",
            f"<p>{tokens:,} tokens to train on. Areas are tokens, the small boxes are"
            " the clusters of the next level; a click leads to the description.</p>",
            _treemap(ordered),
            *map(_section, ordered),
            "</html>",
        ]
    )
    with written(path, "choose another place with --html") as file:
        file.write(content.encode())


def _treemap(ordered: Sequence["Description"]) -> str:
    """Squarified (Bruls, Huizing and van Wijk 2000), largest first."""
    boxes = _boxes([d.tokens for d in ordered], 0, 0, _WIDTH, _HEIGHT)
    shapes = []
    for i, (d, box) in enumerate(zip(ordered, boxes, strict=True)):
        hue = i * _GOLDEN_ANGLE % 360
        x, y, dx, dy = (box[key] for key in ("x", "y", "dx", "dy"))
        words = ", ".join(d.terms)
        label = html.escape(f"{d.name}: {d.share:.1%}: {words}")
        shapes.append(f'<a href="#{html.escape(d.name)}"><title>{label}</title>')
        shapes.append(_rectangle(x, y, dx, dy, f"hsl({hue:.0f} 55% 82%)", "#fff", 2))
        inner = -np.sort(-d.parts[d.parts > 0])
        if len(inner) > 1:
            for part in _boxes(inner.tolist(), x + 2, y + 2, dx - 4, dy - 4):
                sizes = (part[key] for key in ("x", "y", "dx", "dy"))
                shapes.append(
                    _rectangle(*sizes, "none", f"hsl({hue:.0f} 40% 70%)", 0.5)
                )
        shapes += _labels(d, x, y, dx, dy)
        shapes.append("</a>")
    inside = "\n".join(shapes)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{inside}</svg>'


def _boxes(sizes: Sequence[float], x: float, y: float, dx: float, dy: float) -> list:
    if dx <= 0 or dy <= 0:
        return []
    return squarify.squarify(squarify.normalize_sizes(sizes, dx, dy), x, y, dx, dy)


def _rectangle(
    x: float, y: float, dx: float, dy: float, fill: str, stroke: str, width: float
) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{dx:.1f}" height="{dy:.1f}"'
        f' fill="{fill}" stroke="{stroke}" stroke-width="{width}"/>'
    )


def _labels(d: "Description", x: float, y: float, dx: float, dy: float) -> list[str]:
    """As many terms as the box has room for, under its name."""
    lines = []
    for i, word in enumerate([d.name, *d.terms]):
        if (i + 1) * 13 > dy - 4 or len(word) * _LETTER > dx - 8:
            break
        weight = ' font-weight="bold"' if i == 0 else ""
        lines.append(
            f'<text x="{x + 5:.1f}" y="{y + 13 * (i + 1) + 2:.1f}"{weight}>'
            f"{html.escape(word)}</text>"
        )
    return lines


def _section(d: "Description") -> str:
    count = int((d.parts > 0).sum())
    inside = f", {count:,} cluster{'s' * (count != 1)} inside"
    name = html.escape(d.name)
    examples = "".join(f"<li>{html.escape(text)}</li>" for text in d.examples)
    return (
        f'<section id="{name}"><h2>{name} <small>{d.share:.1%} of the tokens:'
        f" {d.tokens:,} in {d.rows:,} rows{inside if len(d.parts) > 1 else ''}</small>"
        f'</h2><div class="terms">{html.escape(", ".join(d.terms))}</div>'
        f"<ul>{examples}</ul></section>"
    )

"""HTML that escapes what is not HTML, and the page around it."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dga_jax.files import WRITE_ELSEWHERE, written

# Nothing is fetched, whatever text comes into the page; what is in it alone runs.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:"
)
# Characters that HTML does not allow, written or escaped; text of a corpus has some.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)
_VOID = {"link", "meta", "br"}

Rows = Sequence[Sequence[str]]


class Html(str):
    """Markup: what `element` puts in as it is."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | bool | None) -> Html:
    """An element, of text that is escaped and of `Html` that is not.

    Args:
      tag: its name.
      children: inside.
      attributes: "class_" is class, "data_x" is data-x; None and False leave one out,
        True has no value.
    """
    named = "".join(
        _attribute(name, value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Html(f"<{tag}{named}>")
    return Html(f"<{tag}{named}>{joined(children)}</{tag}>")


def joined(children: Sequence[str], between: str = "") -> Html:
    """Text and `Html` in a row, as `Html`."""
    return Html(between.join(map(_escaped, children)))


def _escaped(text: str) -> str:
    if isinstance(text, Html):
        return text
    return html.escape(_FORBIDDEN.sub("\ufffd", text))


def _attribute(name: str, value: str | bool) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def table(rows: Rows, *, heads: int = 1, class_: str | None = None) -> Html:
    """Rows of text as a table: the first column to the left, others to the right.

    Args:
      rows: may be shorter than the longest, which has all columns.
      heads: how many of the first rows are headings.
      class_: of the table.
    """
    width = max(map(len, rows))
    made = []
    for i, row in enumerate(rows):
        tag = "th" if i < heads else "td"
        cells = [
            element("th", row[0], scope="row" if i >= heads else None),
            *(element(tag, cell) for cell in row[1:]),
        ]
        made.append(
            element("tr", *cells, *[Html(f"<{tag}></{tag}>")] * (width - len(row)))
        )
    parts = [element("thead", *made[:heads]), element("tbody", *made[heads:])]
    # On a narrow screen the table moves in its box, and the page does not.
    return element("div", element("table", *parts, class_=class_), class_="wide")


def section(title: str, *children: str, id_: str | None = None) -> Html:
    """A part of the page with its title; "" if there is nothing in it."""
    if not any(children):
        return Html("")
    return element("section", element("h2", title), *children, id=id_)


def folded(summary: str, *children: str, open_: bool = False) -> Html:
    """What is shown on a click."""
    return element("details", element("summary", summary), *children, open=open_)


def figure(title: str, about: str, chart: Mapping[str, Any]) -> Html:
    """A chart that the script of the page draws from its numbers.

    Args:
      title: above it.
      about: what is drawn, in a line below it; "" for none.
      chart: as `charts` makes one.
    """
    numbers = json.dumps(chart, separators=(",", ":"), allow_nan=False)
    # `</script>` in a name would end the element; \u003c is the same to JSON.
    for sign in "<>&":
        numbers = numbers.replace(sign, f"\\u{ord(sign):04x}")
    return element(
        "figure",
        element("figcaption", element("strong", title), f" {about}" if about else ""),
        Html(f'<script type="application/json">{numbers}</script>'),
        data_chart=title,
    )


def write(
    path: Path, title: str, *children: str, remedy: str = WRITE_ELSEWHERE
) -> Path:
    """Writes a page, whole or not at all.

    Args:
      path: of the file.
      title: of the page.
      children: of its body.
      remedy: what to do where it cannot be written.

    Returns:
      The path.

    Raises:
      UserError: it cannot be written.
    """
    head = [
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),  # else a browser asks for one
        element("title", title),
        Html(f"<style>{_packaged('page.css')}</style>"),
        Html(f"<script>{_packaged('page.js')}</script>"),
    ]
    page = [
        "<!doctype html>",
        '<html lang="en"><head>',
        *head,
        "</head><body>",
        element("main", *children),
        "</body></html>\n",
    ]
    with written(path, remedy) as file:
        file.write("\n".join(page).encode())
    return path


def _packaged(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

"""Rows of tokens as text for a terminal."""

import textwrap
from collections.abc import Iterator

import numpy as np

from dga_jax.data.store import PAD
from dga_jax.tokenizer import Tokenizer

_WIDTH = 88
_END = "⟨end of text⟩"


def row_lines(
    tokenizer: Tokenizer, row: np.ndarray, head: int = 0, tail: int = 0
) -> list[str]:
    """A row [L+1] as lines of text that a terminal can show.

    The ends of documents and padding are marked; control characters are escaped.

    Args:
      tokenizer: that of the row.
      row: its tokens.
      head: lines that are kept of the beginning; 0 keeps all lines.
      tail: lines that are kept of the end.
    """
    tokens = row[row != PAD]
    pieces = np.split(tokens, np.flatnonzero(tokens == tokenizer.end_of_text) + 1)
    text = ""
    for piece in pieces:
        ends = len(piece) > 0 and piece[-1] == tokenizer.end_of_text
        text += tokenizer.decode(piece) + (f"{_END}\n" if ends else "")
    if padding := len(row) - len(tokens):
        text = f"{text.removesuffix(chr(10))}\n⟨{padding:,} x padding⟩"
    lines = list(_wrapped(text.removesuffix("\n")))
    if head and len(lines) > head + tail + 1:
        left_out = f"⟨{len(lines) - head - tail:,} more lines⟩"
        lines = [*lines[:head], left_out, *lines[len(lines) - tail :]]
    return lines


def visible(text: str) -> str:
    r"""Text with whatever moves, colours or reorders a terminal's escaped: \x1b."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _wrapped(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield from textwrap.wrap(
            visible(line.expandtabs(4)),
            _WIDTH - 4,
            drop_whitespace=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        ) or [""]

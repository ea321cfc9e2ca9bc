"""The model card as Markdown reads it: names are text, whatever is in them."""

import html
import re

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dga_jax.huggingface.card import Card, text

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


def card_of(names):
    weights = np.full((2, len(names)), 0.5)
    words = ("mine", "llama", 9, "float32", 1, 2, "", "store", "ab", (), "dga")
    return Card(*words, names, weights, {}, ["--workdir=run"])


@given(st.lists(NAMES, min_size=1, max_size=4))
@example(
    ["a|b", "<script>alert(1)</script>", "$x_{2}$", "**a** `b`", "[a](b)", "a\\|b"]
)
def test_a_name_is_one_cell_that_says_it(names):
    page = MarkdownIt("commonmark").enable("table").render(text(card_of(names)))
    cells = re.findall(r"<tr>\n<td>(.*)</td>\n<td", page)
    assert [html.unescape(cell) for cell in cells] == names

"""Says what the domains of a store are about: dga_jax.prepare describe STORE."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from dga_jax.data.about import Texts, telling_terms
from dga_jax.data.remote_store import local_store
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.files import local_path
from dga_jax.logs.console import shorten
from dga_jax.prepare.commands import page
from dga_jax.remote import is_remote

_HTML = flags.DEFINE_string("html", None, "The page to write; STORE/describe.html.")
_LINE = 100  # characters of it on the console


class Description(NamedTuple):
    """One domain of the coarsest level.

    Attributes:
      name: the domain.
      rows: training rows.
      tokens: that they predict.
      share: of all tokens.
      parts: int64 [m], tokens of the domains of the next level inside; the tokens
        themselves where there is no other level.
      terms: its most telling words.
      examples: beginnings of documents.
    """

    name: str
    rows: int
    tokens: int
    share: float
    parts: np.ndarray
    terms: list[str]
    examples: list[str]


def describe(store: Store) -> list[Description]:
    """Describes each domain of level 0 that has rows, from the store alone."""
    domains = store.domains(0)
    alive = np.flatnonzero(domains.num_rows)
    finer = store.domains(1).tokens if store.num_levels > 1 else domains.tokens
    parts = finer.reshape(len(domains), -1)
    texts = Texts(store)
    terms = telling_terms([texts.some(domains, i) for i in alive])
    total = domains.tokens.sum()
    return [
        Description(
            domains.names[i],
            int(domains.num_rows[i]),
            int(domains.tokens[i]),
            float(domains.tokens[i] / total),
            parts[i],
            terms[j],
            texts.examples(domains, i),
        )
        for j, i in enumerate(alive)
    ]


def _text(descriptions: Sequence[Description]) -> str:
    lines = []
    for d in sorted(descriptions, key=lambda d: -d.tokens):
        inside = int((d.parts > 0).sum())
        plural = "s" * (inside != 1)
        fine = f", {inside:,} cluster{plural} inside" if len(d.parts) > 1 else ""
        lines.append(
            f"{d.name}  {d.share:.1%} of the tokens ({d.tokens:,}, {d.rows:,} rows"
            f"{fine})"
        )
        lines.append(f"    {', '.join(d.terms)}")
        lines += [f"    - {shorten(text, _LINE)}" for text in d.examples]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Prints the descriptions and writes the page."""
    if len(argv) != 2:
        raise UserError("describe takes one store: dga_jax.prepare describe STORE")
    html = _HTML.value
    if not html and is_remote(argv[1]):
        raise UserError(f"store {argv[1]}: say where to write the page, --html=FILE")
    path = html and local_path("--html", html, "write it here, and copy it there")
    store = Store.open(local_store(argv[1]))
    descriptions = describe(store)
    print(_text(descriptions))
    path = path or store.path / "describe.html"
    page.write(path, store, descriptions)
    print(f"\npage: {path}")

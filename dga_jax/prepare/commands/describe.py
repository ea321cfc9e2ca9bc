"""Says what the domains of a store are about: dga_jax.prepare describe STORE."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from dga_jax.data.remote_store import local_store
from dga_jax.data.store import PAD, Domains, Store
from dga_jax.errors import UserError
from dga_jax.files import local_path
from dga_jax.logs.console import shorten
from dga_jax.prepare.commands import page
from dga_jax.remote import is_remote

_HTML = flags.DEFINE_string("html", None, "The page to write; STORE/describe.html.")
_ROWS = 64  # of a domain that are read for its terms
_TERMS = 8
_EXAMPLES = 3
_LONGEST = 240  # characters of an example, and tokens that are read for it
_SEARCHED = 32  # rows in which the beginning of a document is looked for
_LINE = 100  # characters of it on the console
# Words of three letters or more; numbers and operators tell little.
_WORD = r"(?u)\b[^\W\d_]{3,}\b"
_MOST_WORDS = 50_000


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
    """Describes each domain of level 0 that has rows, from the store alone.

    A term t is ranked by (1 + log n) log(p(t | domain) / p(t)): n of the domain's rows
    that are read hold it, a share p(t | domain), and p(t) is the mean over the domains.
    This is sublinear TF-IDF, rows for terms, the lift for inverse document frequency.
    """
    domains = store.domains(0)
    alive = np.flatnonzero(domains.num_rows)
    finer = store.domains(1).tokens if store.num_levels > 1 else domains.tokens
    parts = finer.reshape(len(domains), -1)
    finest = store.domains(store.num_levels - 1)
    terms = _telling_terms([_some_rows(store, domains, i) for i in alive])
    total = domains.tokens.sum()
    return [
        Description(
            domains.names[i],
            int(domains.num_rows[i]),
            int(domains.tokens[i]),
            float(domains.tokens[i] / total),
            parts[i],
            terms[j],
            _examples(store, domains, i, finest),
        )
        for j, i in enumerate(alive)
    ]


def _some_rows(store: Store, domains: Domains, i: int) -> list[str]:
    """Texts of some rows of a domain, spread evenly."""
    first, count = domains.offsets[i], domains.num_rows[i]
    chosen = np.unique((np.arange(_ROWS) * 2 + 1) * count // (2 * _ROWS))
    rows = store.read("train", first + chosen)
    tokenizer = store.tokenizer()
    return [tokenizer.decode(row[row != PAD]) for row in rows]


def _examples(store: Store, domains: Domains, i: int, finest: Domains) -> list[str]:
    """Beginnings of documents: of the largest finest domains, or spread over this."""
    group = len(finest) // len(domains)
    inside = slice(i * group, (i + 1) * group)
    sizes = finest.num_rows[inside]
    largest = np.argsort(-sizes, kind="stable")[:_EXAMPLES]
    starts = finest.offsets[inside][largest[sizes[largest] > 0]]
    low, high = domains.offsets[i : i + 2]
    others = low + (np.arange(_EXAMPLES) * 2 + 1) * (high - low) // (2 * _EXAMPLES)
    beginnings = [_beginning(store, start, high, begins=True) for start in starts]
    beginnings += [_beginning(store, start, high, begins=False) for start in others]
    return list(dict.fromkeys(filter(None, beginnings)))[:_EXAMPLES]


def _beginning(store: Store, start: int, stop: int, begins: bool) -> str:
    """The beginning of the next document from a row on; "" if none is near."""
    rows = store.read("train", np.arange(start, min(start + _SEARCHED, stop)))
    tokens = np.append(rows[0, 0], rows[:, 1:].ravel())
    tokens = tokens[tokens != PAD]
    tokenizer = store.tokenizer()
    ends = np.append(np.flatnonzero(tokens == tokenizer.end_of_text), len(tokens))
    if not begins:
        tokens, ends = tokens[ends[0] + 1 :], ends[1:] - ends[0] - 1
    if not len(tokens):
        return ""
    text = tokenizer.decode(tokens[: min(ends[0], _LONGEST)])
    return shorten(" ".join(text.split()), _LONGEST)


def _telling_terms(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    texts = [text for of_domain in rows for text in of_domain]
    owner = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    vectorizer = CountVectorizer(
        token_pattern=_WORD, binary=True, max_features=_MOST_WORDS
    )
    try:
        held = vectorizer.fit_transform(texts)
    except ValueError:  # no word at all
        return [[] for _ in rows]
    shape = (len(rows), len(texts))
    sums = sparse.csr_array(
        (np.ones(len(texts)), (owner, np.arange(len(texts)))), shape
    )
    counts = sparse.csr_array(sums @ held)
    sizes = np.bincount(owner)
    overall = np.asarray((sparse.diags_array(1 / sizes) @ counts).mean(axis=0)).ravel()
    words = vectorizer.get_feature_names_out()
    terms = []
    for row, size in enumerate(sizes):
        own = slice(*counts.indptr[row : row + 2])
        count, index = counts.data[own], counts.indices[own]
        scores = (1 + np.log(count)) * np.log(count / size / overall[index])
        best = index[np.argsort(-scores, kind="stable")[:_TERMS]]
        terms.append(words[best].tolist())
    return terms


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

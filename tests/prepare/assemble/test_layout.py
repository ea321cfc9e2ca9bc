"""Which documents are kept and which are held out; rows, however they are made."""

import itertools
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.data.store import SPLITS, Store
from dga_jax.prepare.assemble import layout, rows
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.layout import ASIDE, KEPT, Plan, lay_out
from dga_jax.prepare.assemble.rows import ScatterTokens, Split, WriteRows
from dga_jax.prepare.assemble.tokenizing import DocumentTable

PAD = 65535


class Made:
    """Documents that were never text: pieces of (domain, length) for each shard.

    The tokens of a document are 64 times its place, and one more each.
    """

    around = 1

    def __init__(self, shards):
        self.shards, self.tokenized = shards, self

    def of(self, number):
        for i, piece in enumerate(self.shards[number]):
            domains, lengths = np.array(piece, np.int64).reshape(-1, 2).T
            sizes = (lengths, lengths, size_of(lengths), lengths * 0)
            yield DocumentTable(i, 0, *sizes, [], domains, None, [], [])

    def tokens(self, number, piece, count):
        before = itertools.chain(*self.shards[:number])
        start = sum(map(len, before)) + sum(map(len, self.shards[number][:piece]))
        parts = [
            np.arange(length) + (start + i) * 64
            for i, (_, length) in enumerate(self.shards[number][piece])
        ]
        return np.concatenate([np.zeros(0), *parts]).astype("<u2")


TOKEN_BYTES = np.arange(1 << 16) % 5


def size_of(length):
    """Bytes of a document that was never text."""
    return length * 7 % 45


def bytes_of(documents):
    """Bytes of each token of documents of some lengths, by hand."""
    found = {}
    for i, (_, length) in enumerate(documents):
        tokens = [i * 64 + t for t in range(length)]
        weights = [t % 5 for t in tokens[:-1]]
        if not any(weights):
            weights = [1 for _ in weights]
        for t, token in enumerate(tokens):
            until, total = sum(weights[: t + 1]), sum(weights)
            found[token] = size_of(length) * until // total
        for token in reversed(tokens[1:]):
            found[token] -= found[token - 1]
    return found


@st.composite
def corpora(draw):
    """Documents of 1 to 12 domains in groups: (shards of pieces, count, group)."""
    group, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    document = st.tuples(
        st.integers(0, group * groups - 1),
        st.one_of(st.just(0), st.integers(2, 30)),
    )
    pieces = st.lists(st.lists(document, min_size=1, max_size=25), min_size=1)
    shards = draw(st.lists(pieces, min_size=1, max_size=4))
    return shards, group * groups, group


def laid_out(shards, count, group, every, seq_len, folder):
    parts = layout.segments(range(len(shards)))
    plan = Plan(Made(shards), (0, 1), parts, count, group, every, Folder.of(folder))
    (found,) = lay_out([plan], Local(), seq_len)
    return found, parts


def expected(shards, count, group, every, seq_len):
    """Streams by split and domain, as the docstrings say, by hand."""
    documents = list(itertools.chain(*itertools.chain(*shards)))
    streams = [[[] for _ in range(count)] for _ in range(2)]
    for start in range(0, count, group):
        rank = 0
        for d in range(start, start + group):
            for i, (domain, length) in enumerate(documents):
                if domain == d and length:
                    aside = rank % every == every - 1
                    streams[aside][d] += [i * 64 + t for t in range(length)]
                    rank += 1
        if 0 < rank < every:
            sizes = [len(stream) for stream in streams[KEPT][start : start + group]]
            largest = start + int(np.argmax(sizes))
            tokens = streams[KEPT][largest]
            rows = -(-(len(tokens) - 1) // seq_len)
            border = (rows - max(1, rows // every)) * seq_len
            if rows == 1:
                border = len(tokens) - 1 - max(1, (len(tokens) - 1) // every)
            if border > 0:
                streams[KEPT][largest] = tokens[: border + 1]
                streams[ASIDE][largest] = tokens[border:]
    return streams


@settings(max_examples=30, deadline=None)
@given(
    corpora(),
    st.integers(2, 7),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 200),
)
def test_rows_are_those_of_the_streams(corpus, every, seq_len, segments, in_memory):
    shards, count, _ = corpus
    streams = expected(*corpus, every, seq_len)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_SEGMENTS", segments)
        patch.setattr(rows, "_IN_MEMORY", in_memory)
        patch.setattr(rows, "_AT_ONCE", in_memory // 3)
        found, parts = laid_out(*corpus, every, seq_len, folder)
        assert found.predicted.tolist() == [
            [max(len(stream) - 1, 0) for stream in side] for side in streams
        ]
        splits = [
            Split(name, int(count.sum()), seq_len + 1, np.dtype("<u2"), 7)
            for name, count in zip(("train", "heldout"), found.rows, strict=True)
        ]
        gather = WriteRows(splits, Folder.of(folder), Folder.of(folder) / "reports")
        Local().shuffle(
            ScatterTokens([found], splits, TOKEN_BYTES),
            [(0, part) for part in reversed(parts)],
            gather,
            Folder.of(folder) / "rows",
        )
        for side, split in enumerate(splits):
            stored = read(folder, split)
            for d in range(count):
                low, high = found.offsets[side, d : d + 2]
                assert stored[low:high].tolist() == cut(streams[side][d], seq_len)
        sizes = bytes_of(itertools.chain(*itertools.chain(*shards)))
        sizes[PAD] = 0
        assert gather.row_bytes(0) is None
        assert gather.row_bytes(1).tolist() == [
            sum(sizes[token] for token in row[1:]) for row in stored.tolist()
        ]


def read(folder, split):
    """All rows of a split that was written without a store."""
    shards = [{"name": name, "rows": rows} for name, rows in split.files]
    entry = {"rows": split.rows, "shards": shards}
    manifest = {"seq_len": split.row_tokens - 1, "content_hash": ""}
    manifest |= {"levels": [], "dtype": "<u2", "splits": dict.fromkeys(SPLITS, entry)}
    manifest |= {"vocab_size": 1 << 16, "tokenizer": {"end_of_text": 0}}
    store = Store(Folder.of(folder).path, manifest)
    rows = store.read("train", np.arange(split.rows))
    return np.where(rows < 0, PAD, rows)


def cut(stream, seq_len):
    """Rows of a stream, each beginning with the last token before it."""
    rows = [stream[i : i + seq_len + 1] for i in range(0, len(stream) - 1, seq_len)]
    return [row + [PAD] * (seq_len + 1 - len(row)) for row in rows]


def test_what_is_held_out_comes_from_small_domains_too(tmp_path):
    """As many documents as their share: 200 domains of one document, one of 200."""
    piece = [(d, 5) for d in range(200)] + [(200, 5)] * 200
    found, _ = laid_out([[piece]], 201, 201, 20, 4, tmp_path)
    aside = found.stops[ASIDE] // 5
    assert aside[:200].sum() == aside[200] == 10


def test_domains_too_small_for_both_splits(tmp_path):
    found, _ = laid_out([[[(0, 2), (1, 3), (2, 0)]]], 3, 1, 20, 4, tmp_path)
    assert found.predicted.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert found.rows.tolist() == [[1, 1, 0], [0, 1, 0]]

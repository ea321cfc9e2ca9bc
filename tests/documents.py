"""Documents in rows, for the tests that hold them against documents alone."""

import itertools

import numpy as np

from dga_jax.data.store import PAD


def packed_rows(rng, rows, length, end, vocab_size):
    """Random rows [rows, length + 1] with short documents, some of them padded."""
    tokens = rng.integers(0, vocab_size, (rows, length + 1), np.int32)
    tokens[rng.random(tokens.shape) < rng.choice([0.05, 0.2, 0.5])] = end
    lengths = rng.choice([length + 1, length + 1, 2, 1 + length // 2], rows)
    return np.where(np.arange(length + 1) < lengths[:, None], tokens, PAD)


def pieces_of(row, end):
    """Slices of the predicting positions of a row [L+1], one for each document.

    A document begins with the end of text before it; padding goes with the last.
    """
    starts = np.union1d([0], np.flatnonzero(row[:-1] == end))
    return [slice(*pair) for pair in itertools.pairwise([*starts, len(row) - 1])]


def alone(rows, end):
    """Every document of rows [B, L+1] in a row of its own, padded: [B * L, L+1].

    Behind them come rows of padding: the shape follows from that of `rows`.
    """
    length = rows.shape[1] - 1
    out = np.full((len(rows) * length, length + 1), PAD, np.int32)
    pieces = [row[p.start : p.stop + 1] for row in rows for p in pieces_of(row, end)]
    for place, piece in zip(out, pieces, strict=False):
        place[: len(piece)] = piece
    return out

"""Tokens of documents, one after another in one file, and rows cut from them."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_BUFFERED_TOKENS = 1 << 20


class TokenLog:
    """Documents' tokens in the order they came, to be read again in any order."""

    def __init__(self, path: pathlib.Path, dtype: np.dtype):
        """An empty log in a new file."""
        self.path, self._dtype = path, np.dtype(dtype)
        self._lengths: list[np.ndarray] = []
        path.touch(exist_ok=False)

    def append(self, documents: Sequence[np.ndarray]) -> None:
        """Adds the tokens [n_i] of some documents, which may be none."""
        with open(self.path, "ab") as file:
            for tokens in documents:
                file.write(np.ascontiguousarray(tokens, self._dtype))
        self._lengths.append(np.array([len(tokens) for tokens in documents], np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """int64 [n], tokens of each document."""
        return np.concatenate([np.zeros(0, np.int64), *self._lengths])

    def reader(self) -> "TokenReader":
        """Gives the documents back; what is appended later is not seen."""
        ends = np.cumsum(self.lengths)
        if not len(ends) or not ends[-1]:
            return TokenReader(np.zeros(0, self._dtype), ends)
        return TokenReader(np.memmap(self.path, self._dtype, mode="r"), ends)


class TokenReader:
    """Documents of a log: `tokens` of all of them, and where each one ends."""

    def __init__(self, tokens: np.ndarray, ends: np.ndarray):
        self._tokens, self._ends = tokens, ends

    def read(self, documents: np.ndarray, start: int, stop: int) -> Iterator:
        """Yields tokens start:stop of some documents' concatenation, in pieces."""
        pieces, held, begin = [], 0, 0
        for end, length in zip(
            self._ends[documents].tolist(),
            self._lengths_of(documents).tolist(),
            strict=True,
        ):
            low, high = max(start - begin, 0), min(stop - begin, length)
            begin += length
            if high <= low:
                continue
            pieces.append(self._tokens[end - length + low : end - length + high])
            held += high - low
            if held >= _BUFFERED_TOKENS:
                yield np.concatenate(pieces)
                pieces, held = [], 0
        if pieces:
            yield np.concatenate(pieces)

    def _lengths_of(self, documents):
        before = np.where(documents > 0, self._ends[np.maximum(documents, 1) - 1], 0)
        return self._ends[documents] - before


def count_rows(num_tokens: np.ndarray, seq_len: int) -> np.ndarray:
    """Rows that streams are cut into: each predicts up to `seq_len` further tokens."""
    return np.maximum(0, -(-(num_tokens - 1) // seq_len))


def cut_rows(
    pieces: Iterable[np.ndarray], seq_len: int, pad: int
) -> Iterator[np.ndarray]:
    """Cuts a stream of tokens into rows, each beginning with the last token before it.

    Args:
      pieces: arrays [n_i] that make up the stream.
      seq_len: L.
      pad: fills the last row up.

    Yields:
      Blocks of rows [m, L+1]; together `count_rows` of the length of the stream.
    """
    rest = None
    for piece in pieces:
        tokens = piece if rest is None else np.concatenate([rest, piece])
        full = max(0, (len(tokens) - 1) // seq_len)
        if full:
            windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_len + 1)
            yield windows[: full * seq_len : seq_len]
        rest = tokens[full * seq_len :]
    if rest is not None and len(rest) > 1:
        last = np.full((1, seq_len + 1), pad, rest.dtype)
        last[0, : len(rest)] = rest
        yield last

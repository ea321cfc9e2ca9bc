"""Many streams of tokens, appended to in any order, in one file of bounded memory."""

import collections
import pathlib
from collections.abc import Hashable, Iterable, Iterator

import numpy as np

_BUFFERED_TOKENS = 1 << 24


class TokenLog:
    """Streams of tokens by name: appended bit by bit, then each read from its start.

    What is appended is kept in memory up to a bound and then written, stream after
    stream, to the end of one file, so the number of streams is not limited by the
    number of files a process may open.
    """

    def __init__(
        self, path: pathlib.Path, dtype: np.dtype, buffered: int = _BUFFERED_TOKENS
    ):
        """An empty log in a new file; `buffered` tokens at most are held in memory."""
        self.path, self._dtype, self._limit = path, np.dtype(dtype), buffered
        self._pending = collections.defaultdict(list)
        self._num_pending = 0
        self._segments = collections.defaultdict(list)  # (first token in file, count)
        self._lengths = collections.Counter()
        self._written = 0
        path.touch(exist_ok=False)

    def append(self, stream: Hashable, tokens: np.ndarray) -> None:
        """Adds tokens [n] to the end of a stream."""
        self._pending[stream].append(tokens.astype(self._dtype))
        self._lengths[stream] += len(tokens)
        self._num_pending += len(tokens)
        if self._num_pending >= self._limit:
            self.flush()

    def length(self, stream: Hashable) -> int:
        """Tokens in a stream so far; 0 for one that is not known."""
        return self._lengths[stream]

    def read(
        self, stream: Hashable, start: int = 0, stop: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yields tokens start:stop of a stream in pieces."""
        self.flush()
        stop = self._lengths[stream] if stop is None else stop
        begin = 0
        for first, count in self._segments[stream]:
            skip = max(start - begin, 0)
            take = min(stop - begin, count) - skip
            if take > 0:
                yield np.fromfile(
                    self.path,
                    self._dtype,
                    take,
                    offset=(first + skip) * self._dtype.itemsize,
                )
            begin += count

    def flush(self) -> None:
        """Writes what is still in memory."""
        with open(self.path, "ab") as file:
            for stream, pieces in self._pending.items():
                tokens = np.concatenate(pieces)
                file.write(tokens)
                self._segments[stream].append((self._written, len(tokens)))
                self._written += len(tokens)
        self._pending.clear()
        self._num_pending = 0


def count_rows(num_tokens: int, seq_len: int) -> int:
    """Rows that a stream is cut into: each predicts up to `seq_len` further tokens."""
    return max(0, -(-(num_tokens - 1) // seq_len))


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

"""Text of which only the end is predicted: a question that is read, and its answer."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dga_jax.data.store import PAD
from dga_jax.errors import UserError

if TYPE_CHECKING:
    from dga_jax.data.store import Store
    from dga_jax.tokenizer import Tokenizer

_LOOKED_AT = 4096  # rows of a split, in which some answer has to be


@dataclasses.dataclass(frozen=True)
class Answers:
    """Says where answers are: behind the last mark of a document.

    Attributes:
      mark: tokens that end what is only read.
      end_of_text: token that ends a document.
    """

    mark: tuple[int, ...]
    end_of_text: int

    @classmethod
    def after(cls, text: str, tokenizer: "Tokenizer") -> "Answers":
        """Answers behind the last occurrence of a text in a document.

        Raises:
          UserError: the tokenizer cannot spell it.
        """
        mark = tuple(tokenizer.encode_batch([text])[0].tolist())
        if not mark or tokenizer.unknown in mark:
            raise UserError(
                f"config.data.answers_after={text!r}: the store's tokenizer cannot"
                " spell it; give the text that stands before every answer"
            )
        return cls(mark, tokenizer.end_of_text)

    def only(self, rows: np.ndarray) -> np.ndarray:
        """Rows in which a token t that is only read has become -2 - t.

        Predicted are the tokens behind the last mark of a document up to its end of
        text, where mark and end lie in one row: of a document that is cut nobody knows
        where its answer begins. What is no token stays PAD.

        Args:
          rows: int32 [n, L+1], padded with PAD.

        Returns:
          int32 [n, L+1]; below 0 in the places that no loss counts.
        """
        marks = np.zeros(rows.shape, bool)
        size = len(self.mark)
        if size <= rows.shape[1]:
            windows = np.lib.stride_tricks.sliding_window_view(rows, size, axis=1)
            marks[:, size - 1 :] = (windows == self.mark).all(axis=2)
        seen = np.cumsum(marks, axis=1)
        places = np.arange(rows.shape[1])
        is_end = rows == self.end_of_text
        # Of each place the next end of text, and the one before it; -1 and L+1: none.
        after = np.where(is_end, places, rows.shape[1])
        after = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
        before = np.maximum.accumulate(np.where(is_end, places, -1), axis=1)
        before = np.pad(before[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        sums = np.pad(seen, ((0, 0), (1, 0)))  # marks before each place

        def marks_before(place: np.ndarray) -> np.ndarray:
            return np.take_along_axis(sums, place, axis=1)

        last = np.minimum(after, rows.shape[1] - 1) + 1
        is_answer = (after < rows.shape[1]) & (sums[:, :-1] == marks_before(last))
        is_answer &= sums[:, :-1] > marks_before(before + 1)
        return np.where(is_answer | (rows == PAD), rows, -2 - rows)


def check_some(store: "Store", text: str) -> None:
    """Better now than after a run that had nothing to predict.

    Args:
      store: whose `answers` say what is predicted.
      text: before each answer.

    Raises:
      UserError: no answer in any of many rows of a split.
    """
    for split in ("target", "target_eval", "train"):
        ids = store.spread(split, _LOOKED_AT)
        if not (store.read(split, ids)[:, 1:] > PAD).any():
            raise UserError(
                f"config.data.answers_after={text!r}: none of {len(ids):,} {split} rows"
                " of the store holds it and the end of its document behind it; give the"
                " text that stands before every answer"
            )

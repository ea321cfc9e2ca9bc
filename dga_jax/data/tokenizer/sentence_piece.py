"""A SentencePiece model, unigram or BPE."""

import functools
import os
from collections.abc import Sequence

import numpy as np
import sentencepiece

from dga_jax.data.tokenizer.base import Tokenizer
from dga_jax.errors import UserError

SENTENCEPIECE = "sentencepiece"
_SPACE = "▁"  # how a piece spells a space


class SentencePieceTokenizer(Tokenizer):
    """A `.model` file as the `sentencepiece` library writes it.

    A model normalises text before it cuts it into pieces: most put a space in front,
    many make one space of several and of line ends, and apply NFKC. `token_bytes` are
    those of the normalised text, so they add up to the length of what `decode` gives,
    and of the space in front. What the model cannot spell becomes its unknown piece,
    which counts as 0 bytes: bits per byte are then too high rather than too low. With
    byte_fallback=true there is nothing that the model cannot spell.
    """

    kind = SENTENCEPIECE
    file_name = "tokenizer.model"

    def __init__(self, content: bytes, origin: object = file_name):
        """Reads the content of a `.model` file; `origin` names it in errors.

        Raises:
          UserError: it is none, or it has no piece that ends a text.
        """
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.load_from_serialized_proto(content)
            self.vocab_size = self._model.get_piece_size()
        except Exception as error:  # RuntimeError, or what the binding makes of it
            reason = str(error).strip()
            raise UserError(
                f"{origin} is not a model of the sentencepiece library: {reason}; give"
                " a .model file, or a tokenizer.json"
            ) from error
        self.content, self._origin = content, str(origin)
        self.end_of_text = self._model.eos_id()
        if self.end_of_text < 0:
            raise UserError(
                f"{origin} has no end-of-text piece (its eos_id is -1); train it with"
                " --eos_id=2, as SentencePiece does unless told otherwise"
            )

    def __reduce__(self):
        return type(self), (self.content, self._origin)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """See the base class."""
        model = self._model
        ids = range(self.vocab_size)
        sizes = [
            len(piece.replace(_SPACE, " ").encode())
            for piece in model.id_to_piece(list(ids))
        ]
        for i in ids:
            if model.is_control(i) or model.is_unknown(i):
                sizes[i] = 0
            elif model.is_byte(i):
                sizes[i] = 1
        return np.array(sizes, np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See the base class. Control pieces that a text spells stay text."""
        encoded = self._model.encode(
            list(texts),
            return_type="numpy",
            num_threads=_num_threads(),
            add_bos=False,
            add_eos=False,
        )
        return [ids.view(np.uint32) for ids in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """See the base class."""
        text = [int(i) for i in ids if i in self._spelled]
        return self._model.decode(text, return_type=str)

    @functools.cached_property
    def _spelled(self) -> frozenset[int]:
        """All ids but those of control pieces."""
        ids = range(self.vocab_size)
        return frozenset(i for i in ids if not self._model.is_control(i))


def _num_threads() -> int:
    """As many as the `tokenizers` library takes, and by the same variable."""
    parallel = os.environ.get("TOKENIZERS_PARALLELISM", "").lower()
    if parallel in ("off", "false", "f", "no", "n", "0"):
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

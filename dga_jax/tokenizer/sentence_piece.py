"""A SentencePiece model, unigram or BPE."""

import functools
import os
from collections.abc import Sequence

import numpy as np
import sentencepiece

from dga_jax.errors import UserError
from dga_jax.tokenizer.base import Tokenizer, digest_of
from dga_jax.tokenizer.end_of_text import quoted
from dga_jax.tokenizer.ruled_out import hidden_name, without_piece

SENTENCEPIECE = "sentencepiece"
_SPACE = "▁"  # how a piece spells a space


class SentencePieceTokenizer(Tokenizer):
    """A `.model` file as the `sentencepiece` library writes it.

    A model normalises text before it cuts it into pieces: most put a space in front,
    many make one space of several and of line ends, and apply NFKC. `token_bytes` are
    those of the normalised text, so they add up to the length of what `decode` gives,
    and of the space in front. What the model cannot spell becomes its unknown piece,
    which counts as 0 bytes here. With byte_fallback=true there is nothing that the
    model cannot spell.
    """

    kind = SENTENCEPIECE
    file_name = "tokenizer.model"

    def __init__(
        self,
        content: bytes,
        origin: object = file_name,
        *,
        end_of_text: int | None = None,
        eos_token: str | None = None,
    ):
        """Reads the content of a `.model` file.

        Args:
          content: of the file.
          origin: names it in errors.
          end_of_text: id of what ends a text, where that was chosen before.
          eos_token: the piece that ends a text; by default that of the model's eos_id.

        Raises:
          UserError: it is none, or has no piece that can end a text.
        """
        self.content, self._origin = content, str(origin)
        self._model = model = self._loaded(content)
        self.vocab_size = model.get_piece_size()
        self.unknown = model.unk_id()
        self._formerly = model.eos_id() if model.eos_id() >= 0 else None
        if end_of_text is None:
            end_of_text = self._chosen(eos_token)
        if not 0 <= end_of_text < self.vocab_size:
            raise UserError(
                f"{origin} has no piece {end_of_text}, which is to end a text; prepare"
                " the store again"
            )
        self.end_of_text = end_of_text
        self.end_of_text_name = model.id_to_piece(end_of_text)
        self._model = self._loaded(
            without_piece(content, end_of_text, hidden_name(content))
        )

    def _loaded(self, content: bytes) -> sentencepiece.SentencePieceProcessor:
        model = sentencepiece.SentencePieceProcessor()
        try:
            model.load_from_serialized_proto(content)
            model.get_piece_size()
        except Exception as error:  # RuntimeError, or what the binding makes of it
            reason = str(error).strip()
            raise UserError(
                f"{self._origin} is not a model of the sentencepiece library: {reason};"
                " give a .model file, or a tokenizer.json"
            ) from error
        return model

    def _chosen(self, eos_token: str | None) -> int:
        """The piece that ends a text."""
        model = self._model
        if eos_token is None and self._formerly is None:
            raise UserError(
                f"{self._origin} has no end-of-text piece (its eos_id is -1); choose"
                " one of its pieces with --eos_token=PIECE, or train it with"
                " --eos_id=2, as SentencePiece does unless told otherwise"
            )
        number = self._formerly if eos_token is None else model.piece_to_id(eos_token)
        piece = model.id_to_piece(number)
        if eos_token is not None and piece != eos_token:
            raise UserError(
                f"--eos_token={eos_token}: {self._origin} has no such piece; it has"
                f" {quoted(model.id_to_piece(list(range(min(8, self.vocab_size)))))}"
            )
        if model.is_unknown(number) or model.is_byte(number):
            raise UserError(
                f"{piece} cannot end a text: {self._origin} makes it of what has no"
                " piece; choose another with --eos_token=PIECE"
            )
        return number

    def __reduce__(self):
        make = functools.partial(type(self), end_of_text=self.end_of_text)
        return make, (self.content, self._origin)

    @property
    def digest(self) -> str:
        """See the base class."""
        return digest_of(self.content, self.end_of_text, self._formerly)

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

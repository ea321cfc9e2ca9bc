"""What every tokenizer can do, and the one that needs no file: plain bytes."""

import abc
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

BYTES = "bytes"


class Tokenizer(abc.ABC):
    """Maps text to ids and back. Can be pickled, for worker processes.

    Attributes:
      kind: how the manifest of a store names this tokenizer.
      file_name: of the file that a store keeps it in; None where there is none.
      vocab_size: one more than the largest id.
      end_of_text: id of the token that ends a document; no text becomes it.
      end_of_text_name: what the vocabulary calls it.
      begin_of_text: id of the token that stands before a document; None: none does.
      unknown: id of what text becomes that cannot be spelled; None: there is none.
      is_exact: whether the `token_bytes` of any text add up to its length in UTF-8.
      token_bytes: int32 [vocab_size], UTF-8 bytes of text that each token stands for;
        0 for special tokens, end of text among them.
      content: what the file `file_name` holds, or None.
    """

    kind: str
    file_name: str | None = None
    vocab_size: int
    end_of_text: int
    end_of_text_name: str = ""
    begin_of_text: int | None = None
    unknown: int | None = None
    is_exact: bool = False
    content: bytes | None = None

    @property
    @abc.abstractmethod
    def token_bytes(self) -> np.ndarray:
        """See the class."""

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, uint32 [n_i], with no special token added."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, end of text and other special tokens left out."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides how text becomes ids."""
        return hashlib.sha256(self.content or self.kind.encode()).hexdigest()


def digest_of(
    content: bytes,
    end_of_text: int,
    formerly: int | None,
    begin_of_text: int | None = None,
) -> str:
    """Hex SHA-256 of a file, and of the choice that was made of its tokens.

    Where the choice is what it was `formerly`, before there was one, of the file alone:
    stores and runs of then are known by that.
    """
    if end_of_text != formerly:
        content += f"\0end of text {end_of_text}".encode()
    if begin_of_text is not None:
        content += f"\0begin of text {begin_of_text}".encode()
    return hashlib.sha256(content).hexdigest()


class BytesTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and 256 for end of text."""

    kind = BYTES
    vocab_size = 257
    end_of_text = 256
    is_exact = True

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """See the base class."""
        return np.array([1] * 256 + [0], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See the base class."""
        return [
            np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """See the base class."""
        return bytes(i for i in ids if 0 <= i < 256).decode(errors="replace")

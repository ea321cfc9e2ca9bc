"""Text to token ids and back: plain bytes, or a Hugging Face `tokenizer.json`."""

import abc
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import tokenizers

from dga_jax.errors import UserError

BYTES = "bytes"
HUGGING_FACE = "huggingface"
END_OF_TEXT = (  # the first of these that the vocabulary holds ends a document
    "<|endoftext|>",
    "</s>",
    "<|end_of_text|>",
    "<eos>",
    "<|eot_id|>",
    "<|im_end|>",
    "[SEP]",
)


class Tokenizer(abc.ABC):
    """Maps text to ids and back.

    Attributes:
      kind: how the manifest of a store names this tokenizer.
      vocab_size: one more than the largest id.
      end_of_text: id of the token that ends a document.
      token_bytes: int32 [vocab_size], UTF-8 bytes of text that each token stands for;
        0 for special tokens, end of text among them.
      content: what `tokenizer.json` holds, or None where there is no file to keep.
    """

    kind: str
    vocab_size: int
    end_of_text: int
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


class BytesTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, and 256 for end of text."""

    kind = BYTES
    vocab_size = 257
    end_of_text = 256

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


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` as the `tokenizers` library writes it."""

    kind = HUGGING_FACE

    def __init__(self, content: bytes, origin: object = "tokenizer.json"):
        """Reads the content of a `tokenizer.json`; `origin` names it in errors."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content.decode())
            self._spec = json.loads(content)
        except Exception as error:  # the library raises bare Exception
            raise UserError(
                f"{origin} is not a tokenizer.json of the tokenizers library: {error}"
            ) from error
        self.content = content
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A corpus that spells "<|endoftext|>" means these characters, not the token.
        self._tokenizer.encode_special_tokens = True
        self._ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self._ids.values(), default=-1) + 1
        names = [name for name in END_OF_TEXT if name in self._ids]
        if not names:
            raise UserError(
                f"{origin} has no end-of-text token: none of {', '.join(END_OF_TEXT)};"
                " add one to its vocabulary"
            )
        self.end_of_text = self._ids[names[0]]

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """See the base class."""
        return _token_bytes(self._tokenizer, self._spec, self._ids, self.end_of_text)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See the base class."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """See the base class."""
        return self._tokenizer.decode([int(i) for i in ids if i >= 0])


def load_tokenizer(name: str | pathlib.Path) -> Tokenizer:
    """The tokenizer that `name` stands for: "bytes", or the path of a tokenizer.json.

    Raises:
      UserError: no such file, not a tokenizer, or one without an end-of-text token.
    """
    if name == BYTES:
        return BytesTokenizer()
    try:
        content = pathlib.Path(name).read_bytes()
    except OSError as error:
        raise UserError(
            f"tokenizer {name}: {error.strerror}; give the path of a tokenizer.json,"
            f" or {BYTES!r}"
        ) from error
    return HuggingFaceTokenizer(content, name)


def _token_bytes(tokenizer, spec, ids, end_of_text) -> np.ndarray:
    """UTF-8 bytes by token, by the way in which this kind of vocabulary spells them."""
    kinds = _component_types(spec.get("decoder")) | _component_types(
        spec.get("pre_tokenizer")
    )
    added = {token["id"]: token for token in spec.get("added_tokens", [])}
    result = np.zeros(max(ids.values()) + 1, np.int32)
    for token, i in ids.items():
        if i in added:
            special = added[i]["special"] or i == end_of_text
            result[i] = 0 if special else len(added[i]["content"].encode())
        elif i == end_of_text:
            result[i] = 0
        elif "ByteLevel" in kinds:
            result[i] = len(token)  # its alphabet has one character for each byte
        elif "ByteFallback" in kinds and _is_byte(token):
            result[i] = 1
        elif kinds & {"Metaspace", "ByteFallback"}:
            result[i] = len(token.replace("▁", " ").encode())
        else:
            result[i] = len(tokenizer.decode([i]).encode())
    return result


def _component_types(component: object) -> set[str]:
    """Types of a decoder or pre-tokenizer and of what a Sequence of them holds."""
    if isinstance(component, list):
        return set().union(*map(_component_types, component))
    if not isinstance(component, dict):
        return set()
    nested = [v for v in component.values() if isinstance(v, list)]
    return {component.get("type", "")}.union(*map(_component_types, nested))


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")

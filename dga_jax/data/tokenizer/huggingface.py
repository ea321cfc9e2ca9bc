"""A Hugging Face `tokenizer.json`."""

import functools
import json
from collections.abc import Sequence

import numpy as np
import tokenizers

from dga_jax.data.tokenizer.base import Tokenizer
from dga_jax.data.tokenizer.words import WordEncoder, word_pattern
from dga_jax.errors import UserError

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


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` as the `tokenizers` library writes it."""

    kind = HUGGING_FACE
    file_name = "tokenizer.json"

    def __init__(self, content: bytes, origin: object = file_name):
        """Reads the content of a `tokenizer.json`; `origin` names it in errors.

        Raises:
          UserError: it is none, or it has no token that ends a text.
        """
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content.decode())
            self._spec = json.loads(content)
        except Exception as error:  # the library raises bare Exception
            raise UserError(
                f"{origin} is not a tokenizer.json of the tokenizers library: {error};"
                " give one, or a SentencePiece .model"
            ) from error
        self.content, self._origin = content, str(origin)
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
        pattern = word_pattern(self._spec)
        self._words = pattern and WordEncoder(pattern, self._encode_with_library)

    def __reduce__(self):
        return type(self), (self.content, self._origin)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """See the base class."""
        return _token_bytes(self._tokenizer, self._spec, self._ids, self.end_of_text)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See the base class."""
        if self._words:
            return self._words.encode_batch(texts)
        return self._encode_with_library(texts)

    def _encode_with_library(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """See the base class."""
        return self._tokenizer.decode([int(i) for i in ids if i >= 0])


def _token_bytes(tokenizer, spec, ids, end_of_text) -> np.ndarray:
    """UTF-8 bytes by token, by the way in which this kind of vocabulary spells them."""
    kinds = _component_types(spec.get("decoder")) | _component_types(
        spec.get("pre_tokenizer")
    )
    added = {token["id"]: token for token in spec.get("added_tokens") or []}
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

"""A Hugging Face `tokenizer.json`."""

import array
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from dga_jax.errors import UserError
from dga_jax.tokenizer import end_of_text as ends
from dga_jax.tokenizer.base import Tokenizer, digest_of
from dga_jax.tokenizer.ruled_out import (
    component_types,
    hidden_name,
    is_byte,
    without_token,
)
from dga_jax.tokenizer.words import WordEncoder, word_pattern

HUGGING_FACE = "huggingface"
_KEEP_TEXT = {"ByteLevel", "Split", "Digits", "Sequence"}  # unless Split removes


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` as the `tokenizers` library writes it."""

    kind = HUGGING_FACE
    file_name = "tokenizer.json"

    def __init__(
        self,
        content: bytes,
        origin: object = file_name,
        *,
        end_of_text: int | None = None,
        begin_of_text: int | None = None,
        beside: pathlib.Path | None = None,
        of_model: bool = False,
        eos_token: str | None = None,
    ):
        """Reads the content of a `tokenizer.json`.

        Args:
          content: of the file.
          origin: names it in errors.
          end_of_text: id of what ends a text, where that was chosen before; else see
            `end_of_text.end_of_text` for how it is.
          begin_of_text: id of what stands before a text, where that was chosen before.
          beside: the directory of the file, where its configuration may be.
          of_model: it is that of a model, which says what ends a text; what the
            tokenizer puts before a text is put before each document.
          eos_token: the name of what ends a text.

        Raises:
          UserError: it is none, or it does not say what ends a text.
        """
        self.content, self._origin = content, str(origin)
        self._ids = self._loaded(content).get_vocab(with_added_tokens=True)
        self._spec = json.loads(content)
        self.vocab_size = max(self._ids.values(), default=-1) + 1
        was_chosen = end_of_text is not None
        if not was_chosen:
            end_of_text = ends.end_of_text(
                self._ids,
                self._spec,
                self._origin,
                beside,
                eos_token,
                of_model=of_model,
            )
            if of_model:
                begin_of_text = self._put_before()
        self.begin_of_text = begin_of_text
        names = [name for name, i in self._ids.items() if i == end_of_text]
        if not names:
            raise UserError(
                f"{origin} has no token {end_of_text}, which is to end a text; prepare"
                " the store again"
            )
        self.end_of_text, self.end_of_text_name = end_of_text, min(names)
        try:
            self._tokenizer, spec = self._without_end()
        except UserError:
            if not was_chosen:
                raise
            # Of a store that was made before this was refused: to be read all the same.
            self._tokenizer, spec = self._loaded(content), self._spec
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A corpus that spells "<|endoftext|>" means these characters, not the token.
        self._tokenizer.encode_special_tokens = True
        pattern = word_pattern(spec)
        self._words = pattern and WordEncoder(pattern, self._encode_with_library)

    def _without_end(self) -> tuple[tokenizers.Tokenizer, dict]:
        """The tokenizer, and its spec, changed so that no text becomes its end."""
        hidden = hidden_name(self.content)
        spec = without_token(self._spec, self.end_of_text_name, hidden, self._origin)
        changed = self._loaded(json.dumps(spec).encode())
        if changed.token_to_id(hidden) != self.end_of_text:
            raise UserError(
                f"{self._origin}: its added tokens do not have the ids that it states;"
                " write it again with the tokenizers library"
            )
        return changed, spec

    def _put_before(self) -> int | None:
        """What the tokenizer puts before a text by its own rule, if anything."""
        tokenizer = self._loaded(self.content)
        plain = tokenizer.encode("a", add_special_tokens=False).ids
        ids = tokenizer.encode("a", add_special_tokens=True).ids
        count = len(ids) - len(plain)
        places = [i for i in range(count + 1) if ids[i : i + len(plain)] == plain]
        before = ids[: places[0]] if places else ids
        if len(before) > 1:
            raise UserError(
                f"{self._origin} puts {len(before)} tokens before a text; only one, or"
                " none, is put before a document here: give the file itself and not its"
                " directory for none"
            )
        return before[0] if before else None

    def _loaded(self, content: bytes) -> tokenizers.Tokenizer:
        try:
            return tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises bare Exception
            raise UserError(
                f"{self._origin} is not a tokenizer.json of the tokenizers library:"
                f" {error}; give one, or a SentencePiece .model"
            ) from error

    def __reduce__(self):
        make = functools.partial(
            type(self), end_of_text=self.end_of_text, begin_of_text=self.begin_of_text
        )
        return make, (self.content, self._origin)

    @property
    def digest(self) -> str:
        """See the base class."""
        formerly = ends.formerly(self._ids)
        return digest_of(self.content, self.end_of_text, formerly, self.begin_of_text)

    @property
    def unknown(self) -> int | None:
        """See the base class; None too where it cannot come up."""
        model = self._spec["model"]
        if isinstance(model["vocab"], list):
            return model.get("unk_id")
        found = self._ids.get(model.get("unk_token"))
        return None if found == self.end_of_text else found

    @property
    def is_exact(self) -> bool:
        """See the base class."""
        spec = self._spec
        kinds = component_types(spec.get("pre_tokenizer"))
        text = json.dumps(spec.get("pre_tokenizer"))
        affixes = ("continuing_subword_prefix", "end_of_word_suffix")
        return (
            "merges" in spec["model"]
            and not any(spec["model"].get(affix) for affix in affixes)
            and spec.get("normalizer") is None
            and kinds <= _KEEP_TEXT
            and text.count('"ByteLevel"') == 1
            and '"add_prefix_space": true' not in text
            and '"Removed"' not in text
            and self._ids.keys() >= set(pre_tokenizers.ByteLevel.alphabet())
            and all(token["special"] for token in spec.get("added_tokens") or [])
        )

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
        # Of a list an array makes numbers in half the time that NumPy takes.
        return [
            np.frombuffer(array.array("I", encoding.ids), np.uint32)
            for encoding in encodings
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """See the base class."""
        return self._tokenizer.decode([int(i) for i in ids if i >= 0])


def _token_bytes(
    tokenizer: tokenizers.Tokenizer,
    spec: dict,
    ids: Mapping[str, int],
    end_of_text: int,
) -> np.ndarray:
    """UTF-8 bytes by token, by the way in which this kind of vocabulary spells them."""
    kinds = component_types(spec.get("decoder")) | component_types(
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
        elif "ByteFallback" in kinds and is_byte(token):
            result[i] = 1
        elif kinds & {"Metaspace", "ByteFallback"}:
            result[i] = len(token.replace("▁", " ").encode())
        else:
            result[i] = len(tokenizer.decode([i]).encode())
    return result

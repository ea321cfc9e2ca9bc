"""Text to token ids and back: bytes, a `tokenizer.json`, or a SentencePiece model."""

import pathlib

from dga_jax.data.tokenizer.base import BYTES, BytesTokenizer, Tokenizer
from dga_jax.data.tokenizer.huggingface import HUGGING_FACE, HuggingFaceTokenizer
from dga_jax.data.tokenizer.sentence_piece import (
    SENTENCEPIECE,
    SentencePieceTokenizer,
)
from dga_jax.errors import UserError

__all__ = [
    "BYTES",
    "HUGGING_FACE",
    "SENTENCEPIECE",
    "BytesTokenizer",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "stored_tokenizer",
]

_KINDS = {cls.kind: cls for cls in (HuggingFaceTokenizer, SentencePieceTokenizer)}


def load_tokenizer(name: str | pathlib.Path) -> Tokenizer:
    """The tokenizer that `name` stands for.

    Args:
      name: "bytes", or the path of a tokenizer.json or of a SentencePiece .model.

    Raises:
      UserError: no such file, not a tokenizer, or one without an end-of-text token.
    """
    if name == BYTES:
        return BytesTokenizer()
    if not name:
        raise UserError(f"the tokenizer has no name; give a file, or {BYTES!r}")
    path = pathlib.Path(name)
    content = _read(
        path, f"give a tokenizer.json, a SentencePiece .model, or {BYTES!r}"
    )
    kind = SENTENCEPIECE if path.suffix == ".model" else HUGGING_FACE
    return _KINDS[kind](content, name)


def stored_tokenizer(kind: str, directory: pathlib.Path) -> Tokenizer:
    """The tokenizer of some kind that a store keeps in its directory.

    Raises:
      UserError: no such kind, or its file is missing or damaged.
    """
    if kind == BYTES:
        return BytesTokenizer()
    if kind not in _KINDS:
        raise UserError(
            f"store {directory} has a tokenizer of kind {kind!r}, which this program"
            " does not know; update it, or prepare the store again"
        )
    path = directory / _KINDS[kind].file_name
    return _KINDS[kind](_read(path, "prepare the store again"), path)


def _read(path: pathlib.Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer {path}: {error.strerror}; {expected}") from error

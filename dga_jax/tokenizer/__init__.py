"""Text to token ids and back: bytes, a `tokenizer.json`, or a SentencePiece model."""

import pathlib

from dga_jax.errors import UserError
from dga_jax.tokenizer.base import BYTES, BytesTokenizer, Tokenizer
from dga_jax.tokenizer.huggingface import HUGGING_FACE, HuggingFaceTokenizer
from dga_jax.tokenizer.sentence_piece import SENTENCEPIECE, SentencePieceTokenizer

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


def load_tokenizer(name: str | pathlib.Path, eos_token: str | None = None) -> Tokenizer:
    """The tokenizer that `name` stands for.

    Args:
      name: "bytes", or the path of a tokenizer.json, of a SentencePiece .model, or of
        the directory of a model that has a tokenizer.json: its config.json then says
        what ends a text, and where the tokenizer puts a token before one, so do we.
      eos_token: the token of the file that ends a text; None: the one that the file
        and its configuration beside it say.

    Raises:
      UserError: no such file, not a tokenizer, or one that does not say which token
        ends a text.
    """
    if name == BYTES:
        if eos_token is not None:
            raise UserError(
                f"--eos_token={eos_token}: {BYTES!r} has an end of text of its own;"
                " leave the flag out"
            )
        return BytesTokenizer()
    if not name:
        raise UserError(f"the tokenizer has no name; give a file, or {BYTES!r}")
    path = pathlib.Path(name)
    of_model = path.is_dir()
    if of_model:
        path = path / HuggingFaceTokenizer.file_name
    content = _read(
        path, f"give a tokenizer.json, a SentencePiece .model, or {BYTES!r}"
    )
    if path.suffix == ".model":
        return SentencePieceTokenizer(content, name, eos_token=eos_token)
    return HuggingFaceTokenizer(
        content,
        path if of_model else name,
        beside=path.parent,
        of_model=of_model,
        eos_token=eos_token,
    )


def stored_tokenizer(
    kind: str,
    directory: pathlib.Path,
    end_of_text: int,
    begin_of_text: int | None = None,
) -> Tokenizer:
    """The tokenizer of some kind that a store keeps in its directory.

    Args:
      kind: see `Tokenizer`.
      directory: of the store.
      end_of_text: id of the token that ends the store's documents.
      begin_of_text: id of the one that stands before each, if one does.

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
    content = _read(path, "prepare the store again")
    if begin_of_text is None:
        return _KINDS[kind](content, path, end_of_text=end_of_text)
    return HuggingFaceTokenizer(
        content, path, end_of_text=end_of_text, begin_of_text=begin_of_text
    )


def _read(path: pathlib.Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer {path}: {error.strerror}; {expected}") from error

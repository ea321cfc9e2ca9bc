"""The files by which `transformers` and others open a tokenizer of ours."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import pre_tokenizers

from dga_jax.errors import UserError
from dga_jax.huggingface import sentence_piece
from dga_jax.tokenizer import (
    BytesTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

TOKENIZER = "tokenizer.json"
_END = "<|endoftext|>"  # what bytes have no name for
_NONE = (
    f"no {TOKENIZER} was found that makes the same tokens as"
    f" {SentencePieceTokenizer.file_name}; only the sentencepiece library is sure to,"
    " and others may read it otherwise"
)


class Files(NamedTuple):
    """Contents by name of file, and what a user must know of them, if anything."""

    contents: dict[str, bytes]
    warning: str


def files(tokenizer: Tokenizer, max_positions: int, texts: Iterable[str] = ()) -> Files:
    """The files of a tokenizer.

    Args:
      tokenizer: of the store that a model was trained on.
      max_positions: the longest text that the model is said to take, tokens.
      texts: on which the tokenizer.json of a SentencePiece model is tried; where it
        makes other ids there is none, but for ties.
    """
    end = tokenizer.end_of_text_name or _END
    named = {"bos_token": _begin_name(tokenizer) or end, "eos_token": end}
    config = {
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    found, warning = {}, ""
    if isinstance(tokenizer, HuggingFaceTokenizer):
        found[TOKENIZER] = tokenizer.content
    elif isinstance(tokenizer, BytesTokenizer):
        found[TOKENIZER] = encoded(_of_bytes())
    else:
        found[tokenizer.file_name] = tokenizer.content
        if not sentence_piece.puts_space(tokenizer.content):
            config["add_prefix_space"] = False  # llama.cpp's would put one
        if made := sentence_piece.tokenizer_json(tokenizer, texts):
            found[TOKENIZER] = made.content
            warning = _of_ties(made) if made.ties else ""
        else:
            config["tokenizer_class"] = "LlamaTokenizer"
            warning = _NONE
    found["tokenizer_config.json"] = encoded(config)
    found["special_tokens_map.json"] = encoded(named)
    return Files(found, warning)


def _of_ties(made: sentence_piece.Made) -> str:
    return (
        f"{TOKENIZER} cuts {made.ties} of {made.tried} texts tried elsewhere than"
        f" {SentencePieceTokenizer.file_name}, where both cuts score the same"
    )


def check_same(directory: Path, tokenizer: Tokenizer, where: str) -> None:
    """Raises UserError if a directory has another tokenizer than a store.

    One of the same size would be taken without a word. A directory without any is.

    Args:
      directory: of a model.
      tokenizer: of the store.
      where: names the directory in errors.
    """
    name = TOKENIZER
    if isinstance(tokenizer, SentencePieceTokenizer):
        name = tokenizer.file_name
    path = directory / name
    if not path.is_file():
        return
    try:
        content = path.read_bytes()
        if isinstance(tokenizer, SentencePieceTokenizer):
            same = content == tokenizer.content
        elif isinstance(tokenizer, BytesTokenizer):
            same = _tokens(json.loads(content)) == _tokens(_of_bytes())
        else:
            mine = tokenizer.content
            same = content == mine or _tokens(json.loads(content)) == _tokens(
                json.loads(mine)
            )
    except OSError as error:
        raise UserError(f"{where}: cannot read {name} ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: {name} is not a tokenizer ({error!r}); copy it again"
        ) from None
    if not same:
        raise UserError(
            f"{where}: {name} is another tokenizer than the store's; prepare the store"
            f" with --tokenizer={directory}"
        )


def _tokens(spec: dict[str, Any]) -> tuple:
    """What a tokenizer.json makes of text, however it is written."""
    model = spec["model"]
    vocab = model["vocab"]
    merges = [
        tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair)
        for pair in model.get("merges") or ()
    ]
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or ()}
    # Of a Unigram, an entry's place is its id.
    names = (
        dict(vocab)
        if isinstance(vocab, dict)
        else {name: i for i, (name, _) in enumerate(vocab)}
    )
    return names, merges, added


def begin(tokenizer: Tokenizer) -> int:
    """The token that a text begins with: else the end of the one before."""
    found = tokenizer.begin_of_text
    return tokenizer.end_of_text if found is None else found


def _begin_name(tokenizer: Tokenizer) -> str | None:
    if tokenizer.begin_of_text is None:
        return None
    names, _, added = _tokens(json.loads(tokenizer.content))
    by_id = {i: name for name, i in {**names, **added}.items()}
    return by_id[tokenizer.begin_of_text]


def encoded(value: Any) -> bytes:
    """A JSON file."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _of_bytes() -> dict[str, Any]:
    """A byte-level BPE without merges: the id of a byte is the byte."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    end = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256, "content": _END, **end, "special": True}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: byte for byte, name in enumerate(_byte_names())},
            "merges": [],
        },
    }


def _byte_names() -> list[str]:
    """The character for each byte in a byte-level vocabulary (GPT-2's).

    Printable bytes stand for themselves; the others have characters from U+0100 on.
    """
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    names = [chr(byte if byte in plain else next(others)) for byte in range(256)]
    assert set(names) == set(pre_tokenizers.ByteLevel.alphabet())
    return names

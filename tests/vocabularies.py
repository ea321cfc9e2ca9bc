"""Tokenizers of all kinds, small, for tests that hold for any."""

import functools
import io
import json

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from dga_jax.tokenizer import (
    BytesTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)

END = "<eos>"
# Words of the ends of texts among them, so that vocabularies hold their parts.
TEXTS = (
    "the cat sat on the mat, the end",
    "ünïcode and the rest of it; 語 is a word",
    "ab ab ab    four spaces\n\n  two",
    "<eos> </s> eos <e os> the eos of <<eos>>",
) * 3


def _trained(model, trainer, texts=TEXTS, **parts) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_level(**parts) -> tokenizers.Tokenizer:
    return _trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=330,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        **parts,
    )


def byte_level_of_lines() -> tokenizers.Tokenizer:
    """Its merges make the end of text, and what holds it: nothing cuts words."""
    return _trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        texts=[*TEXTS, *["<eos>", "<eos>s", "a<eos>"] * 50],
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        decoder=decoders.ByteLevel(),
    )


def byte_fallback() -> tokenizers.Tokenizer:
    tokenizer = _trained(
        models.BPE(byte_fallback=True, unk_token="<unk>"),
        trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False),
        normalizer=normalizers.Replace(" ", "▁"),
        decoder=decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        ),
    )
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def metaspace(**parts) -> tokenizers.Tokenizer:
    return _trained(
        models.BPE(unk_token="<unk>"),
        trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False),
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Metaspace(),
        **parts,
    )


def unigram(**parts) -> tokenizers.Tokenizer:
    return _trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=60,
            special_tokens=["<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Metaspace(),
        **parts,
    )


def word_piece() -> tokenizers.Tokenizer:
    return _trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(
            vocab_size=70, special_tokens=["[UNK]"], show_progress=False
        ),
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
        decoder=decoders.WordPiece(),
    )


def word_level() -> tokenizers.Tokenizer:
    return _trained(
        models.WordLevel(unk_token="[UNK]"),
        trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False),
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
    )


BARE = {  # none has an end of text yet, but for entries of that name
    "byte-level": byte_level,
    "byte-level, normalised": lambda: byte_level(
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "byte-level, of lines": byte_level_of_lines,
    "byte fallback": byte_fallback,
    "metaspace": metaspace,
    "metaspace, stripped": lambda: metaspace(
        normalizer=normalizers.Sequence(
            [normalizers.Replace("e", ""), normalizers.Strip()]
        )
    ),
    "unigram": unigram,
    "unigram, normalised": lambda: unigram(normalizer=normalizers.NFKC()),
    "WordPiece": word_piece,
    "WordLevel": word_level,
}


@functools.cache
def bare(name: str) -> str:
    """A tokenizer.json without an end of text."""
    return BARE[name]().to_str()


def with_special_end(name: str) -> Tokenizer:
    """The same with one, as it is usual."""
    tokenizer = tokenizers.Tokenizer.from_str(bare(name))
    tokenizer.add_special_tokens([END])
    return HuggingFaceTokenizer(tokenizer.to_str().encode(), eos_token=END)


def with_added_tokens() -> Tokenizer:
    """Tokens that are found in texts before all else, and eat spaces beside them."""
    tokenizer = tokenizers.Tokenizer.from_str(bare("byte-level"))
    tokenizer.add_special_tokens([END])
    stripping = tokenizers.AddedToken("größer", lstrip=True, rstrip=True)
    tokenizer.add_tokens([" " * n for n in range(2, 9)] + ["the", stripping])
    return HuggingFaceTokenizer(tokenizer.to_str().encode(), eos_token=END)


@functools.cache
def sentence_piece(texts=TEXTS * 3, **options) -> bytes:
    model = io.BytesIO()
    defaults = {
        "model_type": "unigram",
        "vocab_size": 70,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, **(defaults | options)
    )
    return model.getvalue()


def kinds() -> dict[str, Tokenizer]:
    """A tokenizer of each kind, with an end of text."""
    found = {"bytes": BytesTokenizer()}
    found |= {name: with_special_end(name) for name in BARE}
    found["added tokens"] = with_added_tokens()
    for name, options in {
        "SentencePiece": {},
        "SentencePiece, BPE": {"model_type": "bpe", "vocab_size": 80},
        "SentencePiece, byte fallback": {"byte_fallback": True, "vocab_size": 320},
        "SentencePiece, symbols": {"user_defined_symbols": ["the", "  "]},
    }.items():
        found[name] = SentencePieceTokenizer(sentence_piece(**_hashable(options)))
    return found


def _hashable(options):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}

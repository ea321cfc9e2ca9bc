"""A SentencePiece model as a tokenizer.json, where one gives the same ids.

The two libraries differ in more than can be read off a model. So what is made here is
tried on text before it is taken, and what does not give the same ids is not. But of a
Unigram two cuts of a text may have the same score ("7|77" and "77|7"): then rounding
decides, 32 bits of the sum from the beginning of the text on there, 64 here. No
tokenizer.json can say that; such ties are counted.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers

from dga_jax.tokenizer import SentencePieceTokenizer
from dga_jax.tokenizer.protobuf import fields, varint

_UNIGRAM, _BPE = 1, 2
# Fields of a model, of a piece, of what it was trained with, of how it normalises.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TYPE = 3
_KIND, _SUFFIX = 3, 24
_CHARSMAP, _PREFIX, _SQUEEZE, _ESCAPE = 2, 3, 4, 5
# Types of pieces: the first are found before all else in a text, the second nowhere.
_SYMBOL, _UNUSED = 4, 5
_SPACE = "▁"
_BYTE = re.compile("<0x[0-9A-F]{2}>")
# What is seldom in a store, and normalised or spelled byte by byte.
HARD = (
    "",
    " ",
    "a",
    "  two  spaces  and three   ",
    "lines\nand\r\n\ttabs\n\n",
    "ﬁne ½ Ａ e\u0301 é \u212b \u00a0 \u3000 \u200b \u00ad",
    "größer 日本語 ภาษา עברית 👩‍👩‍👧 🎈",
    "▁ ▁▁ \0 \x7f \ufeff \ufffd",
    "aaa aaaa aaaaa !!!!!! ------ 1234567890",
)
_LONGEST = 2_000  # characters of a text that is tried
_ROUNDING = 1e-6  # of a sum of scores in float32, a few times what each addition does


class Made(NamedTuple):
    """A tokenizer.json, and how sure it is.

    Attributes:
      content: of the file.
      ties: texts of those tried that it cuts elsewhere, with the same score.
      tried: texts.
    """

    content: bytes
    ties: int
    tried: int


class _Rules(NamedTuple):
    """How a model cuts and normalises."""

    kind: int
    charsmap: bytes
    prefix: bool
    squeeze: bool


def tokenizer_json(
    tokenizer: SentencePieceTokenizer, texts: Iterable[str]
) -> Made | None:
    """A tokenizer.json that makes the same ids of text, but for ties; None: none found.

    A text that spells a control piece or that of a byte is not among what it must agree
    on: there it becomes that piece.

    Args:
      tokenizer: of a store.
      texts: that it is tried on, besides some that are hard.
    """
    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.content)
    rules = _rules(tokenizer.content)
    if rules is None:
        return None
    made = _made(model, rules)
    special = _specials(model)
    made.add_special_tokens(
        [
            tokenizers.AddedToken(name, special=True, normalized=False)
            for name in special
        ]
    )
    if any(made.token_to_id(name) != i for name, i in special.items()):
        return None
    tried = [
        text[:_LONGEST]
        for text in (*HARD, *texts)
        if not (_BYTE.search(text) or any(name in text for name in special))
    ]
    ties = _ties(tokenizer, model, made, tried)
    if ties is None:
        return None
    spec = json.loads(made.to_str())
    content = (json.dumps(spec, indent=2, ensure_ascii=False) + "\n").encode()
    return Made(content, ties, len(tried))


def puts_space(content: bytes) -> bool:
    """Whether a model puts a space in front of a text."""
    rules = _rules(content)
    return rules is None or rules.prefix


def _ties(
    tokenizer: SentencePieceTokenizer,
    model: sentencepiece.SentencePieceProcessor,
    made: tokenizers.Tokenizer,
    texts: Sequence[str],
) -> int | None:
    """Texts that have other ids which score the same; None: some score otherwise."""
    found = made.encode_batch_fast(texts, add_special_tokens=False)
    pairs = zip(found, tokenizer.encode_batch(texts), strict=True)
    others = [
        (encoding.ids, ids.tolist())
        for encoding, ids in pairs
        if not np.array_equal(encoding.ids, ids)
    ]
    if others and not isinstance(made.model, models.Unigram):
        return None
    same = all(_same_cut(model, *pair) for pair in others)
    return len(others) if same else None


def _same_cut(
    model: sentencepiece.SentencePieceProcessor, ids: list[int], others: list[int]
) -> bool:
    """Whether they spell the same, and score the same to within rounding."""
    texts = ["".join(model.id_to_piece(cut)) for cut in (ids, others)]
    scores = [sum(map(model.get_score, cut)) for cut in (ids, others)]
    return texts[0] == texts[1] and math.isclose(*scores, rel_tol=_ROUNDING)


def _rules(content: bytes) -> _Rules | None:
    """None where there are rules that no tokenizer.json made here would have."""
    trained = normalised = b""
    for number, _, first, stop in fields(content):
        if number == _PIECES:
            if _values(content[first:stop]).get(_TYPE) in (_SYMBOL, _UNUSED):
                return None
        elif number == _TRAINER:
            trained += content[first:stop]
        elif number == _NORMALIZER:
            normalised += content[first:stop]
    trained_with, normalised_by = _values(trained), _values(normalised)
    kind = trained_with.get(_KIND, _UNIGRAM)
    as_usual = not trained_with.get(_SUFFIX) and normalised_by.get(_ESCAPE, 1)
    if kind not in (_UNIGRAM, _BPE) or not as_usual:
        return None
    return _Rules(
        kind,
        normalised_by.get(_CHARSMAP, b""),
        bool(normalised_by.get(_PREFIX, 1)),
        bool(normalised_by.get(_SQUEEZE, 1)),
    )


def _values(message: bytes) -> dict[int, Any]:
    """Of each field that is bytes or a whole number, the last value."""
    found = {}
    for number, start, first, stop in fields(message):
        key, _ = varint(message, start)
        match key & 7:
            case 0:
                found[number], _ = varint(message, first)
            case 2:
                found[number] = message[first:stop]
    return found


def _specials(model: sentencepiece.SentencePieceProcessor) -> dict[str, int]:
    ids = range(model.get_piece_size())
    return {model.id_to_piece(i): i for i in ids if model.is_control(i)}


def _made(
    model: sentencepiece.SentencePieceProcessor, rules: _Rules
) -> tokenizers.Tokenizer:
    ids = range(model.get_piece_size())
    names, scores = model.id_to_piece(list(ids)), [model.get_score(i) for i in ids]
    has_bytes = any(map(model.is_byte, ids))
    plain = [
        not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
        for i in ids
    ]
    unknown = model.unk_id()
    if rules.kind == _BPE:
        vocab = dict(zip(names, ids, strict=True))
        merges = list(_merges({n: i for n, i in vocab.items() if plain[i]}, scores))
        core = models.BPE(
            vocab,
            merges,
            unk_token=names[unknown],
            fuse_unk=True,
            byte_fallback=has_bytes,
        )
    else:
        # The others are no part of what text is cut into.
        never = 100 * min(scores) - 1
        entries = [
            (name, score if is_plain else never)
            for name, score, is_plain in zip(names, scores, plain, strict=True)
        ]
        core = models.Unigram(entries, unk_id=unknown, byte_fallback=has_bytes)
    tokenizer = tokenizers.Tokenizer(core)
    tokenizer.normalizer = _normalizer(rules)
    spaces = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)] if rules.prefix else []
    tokenizer.decoder = decoders.Sequence(spaces + strip)
    return tokenizer


def _normalizer(rules: _Rules) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if rules.charsmap:
        steps.append(normalizers.Precompiled(rules.charsmap))
    steps.append(normalizers.Replace(" ", _SPACE))
    if rules.squeeze:
        around, several = rf"\A{_SPACE}+|{_SPACE}+\z", f"{_SPACE}{{2,}}"
        steps.append(normalizers.Replace(tokenizers.Regex(around), ""))
        steps.append(normalizers.Replace(tokenizers.Regex(several), _SPACE))
    if rules.prefix:
        steps.append(normalizers.Prepend(_SPACE))
    return normalizers.Sequence(steps)


def _merges(
    vocab: Mapping[str, int], scores: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """Pairs of pieces that make a piece, of the best first."""
    ranked = sorted(vocab.items(), key=lambda item: (-scores[item[1]], item[1]))
    for name, _ in ranked:
        pairs = [
            (name[:i], name[i:])
            for i in range(1, len(name))
            if name[:i] in vocab and name[i:] in vocab
        ]
        yield from sorted(pairs, key=lambda pair: [vocab[part] for part in pair])

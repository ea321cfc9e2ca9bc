r"""Byte-level BPE word by word: each word is encoded once, then found in a table.

Such a tokenizer cuts text into words by a regular expression, and the ids of a word do
not depend on its neighbours. So the ids of a text are those of its words, joined. To
cut a text takes Python's `re` a tenth of the time that the library needs to encode it.

`re` has no \p{L}. The classes are therefore spelled out, for characters that no version
of Unicode will move to another class: Latin, Greek, Cyrillic and common symbols. Texts
that hold any other character are left to the library.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

# Of GPT-2, of GPT-4 and Llama 3, and of Qwen 2, as a tokenizer.json spells them.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Left out: letters that have no class of their own when case is ignored (ı, İ, ſ).
_PLAIN = (
    ("\0", "\u012f"),
    ("\u0132", "\u017e"),
    ("\u0180", "\u024f"),
    ("\u0391", "\u03a1"),
    ("\u03a3", "\u03ce"),
    ("\u0400", "\u04ff"),
    ("\u2010", "\u2027"),
    ("\u2030", "\u205e"),
    ("\u20ac", "\u20ac"),
    ("\u2122", "\u2122"),
    ("\u2190", "\u22ff"),
    ("\u2500", "\u25ff"),
)
_NOT_PLAIN = re.compile(f"[^{''.join(f'{a}-{b}' for a, b in _PLAIN)}]")
_NO_SPACE = "\x1c\x1d\x1e\x1f"  # to Python they are space, to Unicode and Rust not
_MOST_WORDS = 1 << 18  # in the table: some 50 MB
_LONGEST_WORD = 64  # of those that stay in it


class WordEncoder:
    """Encodes texts by a table of words.

    Args:
      pattern: as `word_pattern` finds it.
      encode: ids of each of some texts.
    """

    def __init__(
        self, pattern: str, encode: Callable[[Sequence[str]], list[np.ndarray]]
    ):
        self._find = _compiled(pattern).findall
        self._encode = encode
        self._table: dict[str, bytes] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text, uint32 [n_i], as `encode` gives them."""
        result: list = [None] * len(texts)
        plain, others = [], []
        for i, text in enumerate(texts):
            is_plain = text.isascii() or not _NOT_PLAIN.search(text)
            (plain if is_plain else others).append(i)
        if others:
            encoded = self._encode([texts[i] for i in others])
            for i, ids in zip(others, encoded, strict=True):
                result[i] = ids
        words = [self._find(texts[i]) for i in plain]
        long = self._learn(words)
        look_up = self._table.__getitem__
        for i, parts in zip(plain, words, strict=True):
            result[i] = np.frombuffer(b"".join(map(look_up, parts)), np.uint32)
        for word in long:
            del self._table[word]
        return result

    def _learn(self, words: Sequence[Sequence[str]]) -> list[str]:
        """Puts the words of texts into the table; returns those too long to stay."""
        if len(self._table) > _MOST_WORDS:
            self._table.clear()
        new = list(set().union(*words).difference(self._table))
        if new:
            encoded = (ids.tobytes() for ids in self._encode(new))
            self._table.update(zip(new, encoded, strict=True))
        return [word for word in new if len(word) > _LONGEST_WORD]


def word_pattern(spec: dict) -> str | None:
    """The pattern by which a tokenizer cuts text into words it encodes each by itself.

    Args:
      spec: of a tokenizer.json.

    Returns:
      The pattern, or None where it is none of the known ones, or where the tokenizer
      does anything that depends on more than a word, or on chance.
    """
    model = spec.get("model") or {}
    by_words = (
        model.get("type") == "BPE"
        and not model.get("dropout")
        # NFC leaves plain texts as they are: nothing in them composes.
        and spec.get("normalizer") in (None, {"type": "NFC"})
        # Special tokens are encoded as the text they spell, others wherever they occur.
        and all(token["special"] for token in spec.get("added_tokens") or [])
    )
    if not by_words:
        return None
    match spec.get("pre_tokenizer"):
        case {"type": "ByteLevel"} as byte_level:
            return _GPT2 if _adds_nothing(byte_level, cuts=True) else None
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel"} as byte_level,
            ],
        }:
            known = pattern in (_GPT2, _LLAMA3, _QWEN2)
            return pattern if known and _adds_nothing(byte_level, cuts=False) else None
    return None


def _adds_nothing(byte_level: dict, cuts: bool) -> bool:
    """Whether ByteLevel adds no space, and cuts into words or not."""
    return (
        byte_level.get("add_prefix_space") is False
        and byte_level.get("use_regex", True) is cuts
    )


def _compiled(pattern: str) -> re.Pattern:
    """A pattern for `re` that finds the same in plain texts."""
    plain = [chr(i) for a, b in _PLAIN for i in range(ord(a), ord(b) + 1)]
    classes = {
        r"\p{L}": [c for c in plain if unicodedata.category(c).startswith("L")],
        r"\p{N}": [c for c in plain if unicodedata.category(c).startswith("N")],
        r"\s": [c for c in plain if c.isspace() and c not in _NO_SPACE],
    }
    spelled = {name: "".join(map(re.escape, found)) for name, found in classes.items()}
    pattern = pattern.replace(r"\S", rf"[^{spelled[chr(92) + 's']}]")
    pieces = re.split(r"(\[[^\]]*\])", pattern)
    for i, piece in enumerate(pieces):
        bracketed = piece.startswith("[")
        for name, found in spelled.items():
            piece = piece.replace(name, found if bracketed else f"[{found}]")
        pieces[i] = piece
    return re.compile("".join(pieces))

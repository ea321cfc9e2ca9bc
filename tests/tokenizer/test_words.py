"""Encoding word by word gives what the library gives, to the last id."""

import itertools
import json
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from test_sentencepiece import sample_texts
from tokenizers import Regex, pre_tokenizers

from dga_jax.data.sample import SAMPLE
from dga_jax.tokenizer import HuggingFaceTokenizer, words

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}"
    r"]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
PLAIN = [chr(i) for a, b in words._PLAIN for i in range(ord(a), ord(b) + 1)]
ASCII = [chr(i) for i in range(128)]
# Around a character: what it may join, or be joined by.
CONTEXTS = (
    "{0}",
    "{0}{0}",
    "a{0}a",
    " {0} ",
    "1{0}1",
    "!{0}\n",
    "\n{0}\r\n",
    "  {0}",
    "'{0}",
    "'{0}e  {0}",
    "'L{0}",
)


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**({"add_prefix_space": False} | options))


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            byte_level(use_regex=False),
        ]
    )


CUTS = {"gpt2": byte_level(), "llama3": split(LLAMA3), "qwen2": split(QWEN2)}
PATTERNS = {"gpt2": GPT2, "llama3": LLAMA3, "qwen2": QWEN2}


def sample_tokenizer(pre_tokenizer=None, change=lambda spec: None):
    """The sample's tokenizer, with some other parts."""
    library = tokenizers.Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    if pre_tokenizer:
        library.pre_tokenizer = pre_tokenizer
    spec = json.loads(library.to_str())
    change(spec)
    return HuggingFaceTokenizer(json.dumps(spec).encode())


@pytest.fixture(scope="module", params=CUTS)
def tokenizer(request):
    return sample_tokenizer(CUTS[request.param])


def check(tokenizer, texts):
    assert tokenizer._words
    found = tokenizer.encode_batch(texts)
    expected = tokenizer._encode_with_library(texts)
    for text, one, other in zip(texts, found, expected, strict=True):
        assert one.dtype == np.uint32
        assert one.tolist() == other.tolist(), repr(text[:200])


@pytest.mark.parametrize("name", CUTS)
def test_cuts_any_plain_text_as_the_library_does(name):
    """All characters, and all pairs of ASCII, where they matter."""
    cut = pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated")
    if name == "gpt2":
        cut = CUTS[name]
    find = words._compiled(PATTERNS[name]).findall
    single = (context.format(c) for c in PLAIN for context in CONTEXTS)
    pairs = map("".join, itertools.product(ASCII, ASCII))
    around = (c.format(pair) for pair in pairs for c in ("{}", "x{}y", " {} "))
    for text in itertools.chain(single, around):
        found = [text[a:b] for _, (a, b) in cut.pre_tokenize_str(text)]
        assert find(text) == found, repr(text)


@given(st.lists(st.text(st.sampled_from(ASCII))))
def test_ascii(tokenizer, texts):
    check(tokenizer, texts)


@given(
    st.lists(st.text(st.sampled_from([*" \n'sS1.\t\r", *PLAIN[::7], *"ſ語🎈\xa0 "])))
)
def test_all_sorts_of_characters(tokenizer, texts):
    check(tokenizer, texts)


def test_nfc_changes_no_plain_text():
    marks = [c for c in PLAIN if unicodedata.combining(c)]
    pairs = itertools.product(PLAIN, marks)
    assert unicodedata.is_normalized("NFC", "".join(map("".join, pairs)))
    tokenizer = sample_tokenizer(
        CUTS["qwen2"], lambda spec: spec.update(normalizer={"type": "NFC"})
    )
    check(tokenizer, ["größer", "gro\u0308ßer", "\u212b is \xc5", *sample_texts(8)])
    decomposed, composed = tokenizer.encode_batch(["o\u0308", "ö"])
    assert decomposed.tolist() == composed.tolist()


def test_real_text(tokenizer):
    texts = sample_texts(16)
    assert any(not text.isascii() for text in texts)
    check(tokenizer, [*texts, "", "größer </s> <|endoftext|>", "Ça coûte 3 € — “no”"])


def test_the_table_is_bounded(monkeypatch):
    tokenizer = sample_tokenizer()
    monkeypatch.setattr(words, "_MOST_WORDS", 50)
    texts = sample_texts(400)
    for text in texts:
        check(tokenizer, [text, "x" * 65, f"it is {'y' * 1000} again"])
        assert not any(len(word) > 64 for word in tokenizer._words._table)
    most = max(len(set(text.split())) for text in texts)
    assert len(tokenizer._words._table) < 50 + 3 * most


def test_others_are_left_to_the_library():
    def added(special):
        token = {
            "id": 2048,
            "content": "xyz",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": special,
        }
        return lambda spec: spec["added_tokens"].append(token)

    assert sample_tokenizer(change=added(True))._words
    assert sample_tokenizer(split(GPT2))._words
    for tokenizer in [
        sample_tokenizer(change=added(False)),
        sample_tokenizer(change=lambda s: s["model"].update(dropout=0.5)),
        sample_tokenizer(change=lambda s: s.update(normalizer={"type": "NFKC"})),
        sample_tokenizer(byte_level(add_prefix_space=True)),
        sample_tokenizer(byte_level(use_regex=False)),
        sample_tokenizer(split(r"\s+")),
        sample_tokenizer(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(), byte_level()])
        ),
    ]:
        assert tokenizer._words is None
        (ids,) = tokenizer.encode_batch(["xyz 12"])
        assert tokenizer.decode(ids).strip() == "xyz 12"


def test_special_tokens_are_text(tokenizer):
    (ids,) = tokenizer.encode_batch(["<|endoftext|>"])
    assert tokenizer.end_of_text not in ids

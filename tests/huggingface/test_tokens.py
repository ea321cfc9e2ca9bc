"""Tokens are those of `transformers`, for a tokenizer of the kind of Qwen's."""

import unicodedata

import hf_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qwen import OTHERS, SPECIAL, save_tokenizer, texts_of

from dga_jax.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Ours, and that of `transformers`."""
    transformers = hf_models.library("transformers")
    path = tmp_path_factory.mktemp("model")
    save_tokenizer(path)
    return load_tokenizer(path), transformers.AutoTokenizer.from_pretrained(path)


def same(both, texts, **options):
    ours, theirs = both
    found = [ids.tolist() for ids in ours.encode_batch(texts)]
    return found == theirs(texts, **options)["input_ids"]


def test_of_real_text(both):
    for name in ("austen", "python_code", "dm_math", "factbook"):
        assert same(both, texts_of(name, every=20)), name


parts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([*OTHERS, "\r\n", "   ", "'S", "e\u0301", "\u1100\u1161", "12٣"]),
)


@given(st.lists(parts, max_size=12))
def test_of_any_text(both, pieces):
    assert same(both, ["".join(pieces)])


def test_special_tokens_that_a_text_spells_stay_text(both):
    """As there with `split_special_tokens`; those of other kinds are tokens."""
    ours, theirs = both
    texts = [f"a{name}b {name}\n" for name in (*SPECIAL, *OTHERS)]
    assert same(both, texts, split_special_tokens=True)
    assert not same(both, texts[:1])
    marked = set(theirs.convert_tokens_to_ids(list(SPECIAL)))
    for text, ids in zip(texts, ours.encode_batch(texts), strict=True):
        assert not marked & set(ids.tolist())
        assert ours.decode(ids) == text
    others = theirs.convert_tokens_to_ids(list(OTHERS))
    assert [ids[1] for ids in ours.encode_batch(texts[-len(OTHERS) :])] == others


def test_what_it_knows_of_itself(both):
    ours, theirs = both
    assert ours.vocab_size == len(theirs)
    assert ours.end_of_text == theirs.eos_token_id
    assert ours.begin_of_text is theirs.bos_token_id is None
    text = "e\u0301 \u212b größer <think> 語"
    (ids,) = ours.encode_batch([text])
    normalised = unicodedata.normalize("NFC", text)
    assert ours.token_bytes[ids].sum() == len(normalised.encode())

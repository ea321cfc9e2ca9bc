import json
import pickle

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.tokenizer import HuggingFaceTokenizer, load_tokenizer

TEXTS = ["the cat sat on the mat, the end", "ünïcode and the rest of it", "ab ab ab"]
# Without surrogates, which no text on disk can hold.
real_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module", params=["bytes", SAMPLE / "tokenizer.json"])
def tokenizer(request):
    return load_tokenizer(request.param)


def sentencepiece_like() -> HuggingFaceTokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    return HuggingFaceTokenizer(json.dumps(spec).encode())


SENTENCEPIECE = sentencepiece_like()


@given(text=real_text)
def test_bytes_add_up_and_text_comes_back(tokenizer, text):
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert not (ids == tokenizer.end_of_text).any()


@given(text=real_text)
def test_bytes_add_up_with_byte_fallback(text):
    (ids,) = SENTENCEPIECE.encode_batch([text])
    # In this spelling "▁", three bytes of UTF-8, is how a space is written.
    assert SENTENCEPIECE.token_bytes[ids].sum() == len(text.replace("▁", " ").encode())


def test_end_of_text(tokenizer):
    assert tokenizer.token_bytes.shape == (tokenizer.vocab_size,)
    assert tokenizer.token_bytes.dtype == np.int32
    assert tokenizer.token_bytes[tokenizer.end_of_text] == 0
    assert tokenizer.decode([tokenizer.end_of_text, -1]) == ""


def test_vocabulary_sizes():
    assert load_tokenizer("bytes").vocab_size == 257
    assert load_tokenizer(SAMPLE / "tokenizer.json").vocab_size == 2048


def test_spelling_the_end_of_text_does_not_end_it(tokenizer):
    text = "GPT-2 ends with <|endoftext|>, it is said"
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == text


def test_truncation_and_padding_in_the_file_are_ignored():
    spec = tokenizers.Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    spec.enable_truncation(4)
    spec.enable_padding(length=50)
    tokenizer = HuggingFaceTokenizer(spec.to_str().encode())
    long, short = tokenizer.encode_batch(["one two three four five six seven", "a"])
    assert len(long) > 4
    assert len(short) == 1


def test_added_words_count_and_special_ones_do_not():
    spec = tokenizers.Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    spec.add_tokens(["größer"])
    spec.add_special_tokens(["<image>"])
    tokenizer = HuggingFaceTokenizer(spec.to_str().encode())
    assert tokenizer.vocab_size == 2050
    assert tokenizer.token_bytes[-2:].tolist() == [8, 0]


def test_other_vocabularies_count_what_they_decode_to():
    vocab = {"[UNK]": 0, "</s>": 1, "one": 2, "größer": 3}
    spec = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    spec.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = HuggingFaceTokenizer(spec.to_str().encode(), eos_token="</s>")
    assert tokenizer.token_bytes[1:].tolist() == [0, 3, 8]


def test_what_is_not_a_tokenizer(tmp_path):
    with pytest.raises(UserError, match=r"No such file.*'bytes'"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"tokenizer\.json: No such file"):
        load_tokenizer(tmp_path)
    for content in (b"{}", b"\xff\xfe", b""):
        path = tmp_path / "broken.json"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.json is not a tokenizer\.json"):
            load_tokenizer(path)


def test_pickled_it_is_the_same(tokenizer):
    texts = ["the cat sat", "größer", ""]
    before = tokenizer.encode_batch(texts)
    content = pickle.dumps(tokenizer)
    copy = pickle.loads(content)
    for one, other in zip(before, copy.encode_batch(texts), strict=True):
        np.testing.assert_array_equal(one, other)
    assert copy.digest == tokenizer.digest
    # What it has learnt meanwhile does not travel.
    assert len(content) == len(pickle.dumps(copy))

import io
import pickle

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import SPLITS, Domains, Store
from dga_jax.errors import UserError
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand
from dga_jax.prepare.store_writer import StoreWriter
from dga_jax.tokenizer import SentencePieceTokenizer, load_tokenizer

real_text = st.text(st.characters(exclude_categories=["Cs"]))


def sample_texts(step=8):
    pattern = str(SAMPLE / "generic" / "*.xz")
    documents = Corpus(tuple(expand([pattern]))).documents()
    return [document.text for document in documents][::step]


def trained(**options) -> bytes:
    """A model of a part of the sample."""
    model = io.BytesIO()
    lines = [line for text in sample_texts(40) for line in text.split("\n")]
    defaults = {
        "model_type": "bpe",
        "vocab_size": 600,
        "byte_fallback": True,
        "character_coverage": 0.999,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, **(defaults | options)
    )
    return model.getvalue()


@pytest.fixture(
    scope="module",
    params=[
        {},
        {"model_type": "unigram", "vocab_size": 700},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"byte_fallback": False, "add_dummy_prefix": False},
        {"treat_whitespace_as_suffix": True, "user_defined_symbols": ["<größer>"]},
    ],
    ids=["bpe", "unigram", "identity", "unknowns", "suffix"],
)
def content(request):
    return trained(**request.param)


@pytest.fixture(scope="module")
def tokenizer(content):
    return SentencePieceTokenizer(content)


def processor(tokenizer):
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.content)


@given(text=real_text)
def test_bytes_are_those_of_the_normalised_text(tokenizer, text):
    model = processor(tokenizer)
    (ids,) = tokenizer.encode_batch([text])
    found = tokenizer.token_bytes[ids].sum()
    spelled = model.normalize(text).replace("▁", " ")
    if (ids == model.unk_id()).any():
        assert found < len(spelled.encode())
    else:
        assert found == len(spelled.encode())


def test_real_text_comes_back():
    """A model that changes nothing gives back what it was given."""
    tokenizer = SentencePieceTokenizer(
        trained(normalization_rule_name="identity", remove_extra_whitespaces=False)
    )
    texts = [text for text in sample_texts(40) if "▁" not in text]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.dtype == np.uint32
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes[ids].sum() == len(text.encode()) + 1


def test_the_same_ids_as_one_by_one(tokenizer):
    texts = [*sample_texts(200), "", " \n ", "größer 語 🎈"]
    model = processor(tokenizer)
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.tolist() == model.encode(text)


def test_control_pieces_in_a_text_stay_text(tokenizer):
    text = "it ends with </s>, or <|endoftext|>, or <s>, or <unk>, or <0x41>"
    (ids,) = tokenizer.encode_batch([text])
    model = processor(tokenizer)
    assert not any(model.is_control(i) for i in ids.tolist())
    assert "/s>, " in tokenizer.decode(ids)
    assert tokenizer.decode([tokenizer.end_of_text, -1]) == ""
    assert tokenizer.decode([tokenizer.end_of_text, *ids, -1]) == tokenizer.decode(ids)


def test_what_each_piece_counts(tokenizer):
    model, counts = processor(tokenizer), tokenizer.token_bytes
    assert counts.shape == (tokenizer.vocab_size,) == (model.get_piece_size(),)
    assert counts.dtype == np.int32
    assert counts[tokenizer.end_of_text] == counts[model.unk_id()] == 0
    if model.is_byte(model.piece_to_id("<0x41>")):
        assert counts[model.piece_to_id("<0x41>")] == 1
    assert counts[model.piece_to_id("e")] == 1
    if not model.is_unknown(model.piece_to_id("<größer>")):
        assert counts[model.piece_to_id("<größer>")] == len("<größer>".encode())


def test_one_thread_gives_the_same(tokenizer, monkeypatch):
    texts = sample_texts(100)
    several = tokenizer.encode_batch(texts)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    for one, other in zip(several, tokenizer.encode_batch(texts), strict=True):
        np.testing.assert_array_equal(one, other)
    copy = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(copy.encode_batch(texts)[3], several[3])


def test_a_store_keeps_it(content, tmp_path):
    path = tmp_path / "mine.model"
    path.write_bytes(content)
    tokenizer = load_tokenizer(path)
    (tmp_path / "s").mkdir()
    writer = StoreWriter(tmp_path / "s", tokenizer, seq_len=8)
    (ids,) = tokenizer.encode_batch(["It is a truth universally acknowledged, that"])
    for split in SPLITS:
        writer.write_split(split, 1, [ids[None, :9].astype(writer.dtype)])
    writer.write_level(Domains(["all"], [0, 1], [0, 1], [8]))
    writer.finish()
    store = Store.open(tmp_path / "s")
    assert store.manifest["tokenizer"]["kind"] == "sentencepiece"
    assert (store.path / "tokenizer.model").read_bytes() == content
    row = store.read("train", [0])[0]
    assert store.tokenizer().decode(row).startswith("It is")
    assert store.tokenizer().digest == tokenizer.digest
    np.testing.assert_array_equal(store.token_bytes, tokenizer.token_bytes)


def test_what_is_not_a_model(tmp_path):
    for broken in (b"", b"{}", b"\xff\xfe", trained()[:5000]):
        path = tmp_path / "broken.model"
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"broken\.model is not a model of") as said:
            load_tokenizer(path)
        assert "\n" not in str(said.value)
    with pytest.raises(UserError, match=r"No such file.*SentencePiece \.model"):
        load_tokenizer(tmp_path / "gone.model")


def test_no_end_of_text_piece():
    with pytest.raises(UserError, match=r"m\.model has no end-of-text piece.*--eos_id"):
        SentencePieceTokenizer(trained(eos_id=-1), "m.model")

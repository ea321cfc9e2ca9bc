"""A SentencePiece model leaves as a tokenizer.json that makes the same ids."""

import json
from pathlib import Path

import forks
import hf_models
import numpy as np
import pytest
import tokenizers
from runs import small_config, train_run
from tokenizers import normalizers
from vocabularies import TEXTS, sentence_piece

from dga_jax.data.store import Store
from dga_jax.huggingface import sentence_piece as conversion
from dga_jax.huggingface import tokenizer_files
from dga_jax.prepare.assemble import prepare_store
from dga_jax.tokenizer import SentencePieceTokenizer

ROOT = Path(__file__).parents[2]
LLAMA2 = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "byte_fallback": True,
    "model_type": "bpe",
    "vocab_size": 380,
}
OPTIONS = {
    "BPE": {"model_type": "bpe", "vocab_size": 80},
    "as Llama 2": LLAMA2,
    "BPE, no space before": {**LLAMA2, "add_dummy_prefix": False},
    "unigram": {},
    "unigram, bytes": {"byte_fallback": True, "vocab_size": 330},
}
# Besides those that a conversion is tried on.
HELD_OUT = (
    "Tһe end,\n\n\tend of thé mat ",
    "abab  語語 e\u0308nd",
    "\r\n the",
    "cat▁sat",
)


@pytest.mark.parametrize("name", OPTIONS)
def test_ids_are_the_same(name):
    tokenizer = SentencePieceTokenizer(sentence_piece(**OPTIONS[name]))
    made = conversion.tokenizer_json(tokenizer, TEXTS[:3])
    assert made.ties == 0
    other = tokenizers.Tokenizer.from_str(made.content.decode())
    texts = [*HELD_OUT, *TEXTS[:3], *conversion.HARD]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        found = other.encode(text, add_special_tokens=False).ids
        assert found == ids.tolist(), text
        if tokenizer.unknown not in found:
            assert other.decode(found) == tokenizer.decode(ids)
    assert other.get_vocab_size() == tokenizer.vocab_size
    assert other.encode("</s>").ids[-1] == tokenizer.end_of_text


def test_no_space_in_front_is_said():
    """Other programs put one, unless they are told."""
    for options, said in (
        (LLAMA2, None),
        (LLAMA2 | {"add_dummy_prefix": False}, False),
    ):
        tokenizer = SentencePieceTokenizer(sentence_piece(**options))
        config = tokenizer_files.files(tokenizer, 32).contents["tokenizer_config.json"]
        assert json.loads(config).get("add_prefix_space") is said


def test_ties_are_counted():
    """Cuts of the same score, of which each library takes one; no other difference."""
    random = np.random.default_rng(0)

    def drawn(count):
        lengths = random.integers(1, 40, count)
        return ["".join(random.choice(list("abc"), length)) for length in lengths]

    content = sentence_piece(tuple(drawn(300)), vocab_size=20)
    tokenizer, texts = SentencePieceTokenizer(content), drawn(3_000)
    found, warning = tokenizer_files.files(tokenizer, 32, texts)
    other = tokenizers.Tokenizer.from_str(found["tokenizer.json"].decode())
    pairs = zip(
        other.encode_batch(texts, add_special_tokens=False),
        tokenizer.encode_batch(texts),
        strict=True,
    )
    others = [(x.ids, y.tolist()) for x, y in pairs if x.ids != y.tolist()]
    assert 0 < len(others) < 100
    assert f"cuts {len(others)} of {3_000 + len(conversion.HARD)} texts" in warning
    for one, another in others:
        assert sorted(one) == sorted(another)


@pytest.mark.parametrize(
    "options",
    [{"user_defined_symbols": ("the",)}, {"treat_whitespace_as_suffix": True}],
)
def test_what_has_no_such_file(options):
    """It leaves with its own alone."""
    tokenizer = SentencePieceTokenizer(sentence_piece(**options))
    found, warning = tokenizer_files.files(tokenizer, 32)
    assert tokenizer_files.TOKENIZER not in found
    assert found["tokenizer.model"] == tokenizer.content
    assert b'"LlamaTokenizer"' in found["tokenizer_config.json"]
    assert "no tokenizer.json was found" in warning


def test_one_that_makes_other_ids_is_not_taken(monkeypatch):
    tokenizer = SentencePieceTokenizer(sentence_piece())
    changed = normalizers.Replace("語", "x")
    make = conversion._normalizer
    monkeypatch.setattr(
        conversion,
        "_normalizer",
        lambda rules: normalizers.Sequence([changed, make(rules)]),
    )
    monkeypatch.setattr(conversion, "HARD", ())
    assert conversion.tokenizer_json(tokenizer, ["the cat"])
    assert conversion.tokenizer_json(tokenizer, ["the cat", "語"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [OPTIONS["BPE, no space before"], LLAMA2, {"user_defined_symbols": ("the",)}],
)
def test_an_export(options, byte_corpora, tmp_path):
    """Opens with the tokens of the store, or the command says that it may not."""
    exact = "user_defined_symbols" not in options
    tokenizer = SentencePieceTokenizer(sentence_piece(**options))
    path, out = tmp_path / "store", tmp_path / "out"
    prepare_store(**byte_corpora, tokenizer=tokenizer, seq_len=32, output=path)
    config = small_config(Store.open(path), train__steps=1)
    assert train_run(config, tmp_path / "run")
    flags = [f"--workdir={tmp_path / 'run'}", f"--output={out}"]
    process = forks.Process(["-m", "dga_jax.export", *flags], ROOT)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert ("no tokenizer.json was found" in printed) != exact
    assert (out / "tokenizer.model").read_bytes() == tokenizer.content
    assert (out / "tokenizer.json").exists() == exact
    if exact:
        transformers = hf_models.library("transformers")
        found = transformers.AutoTokenizer.from_pretrained(out)
        texts = [*HELD_OUT, *TEXTS[:3]]
        expected = [ids.tolist() for ids in tokenizer.encode_batch(texts)]
        assert found(texts)["input_ids"] == expected
        assert found.eos_token_id == tokenizer.end_of_text

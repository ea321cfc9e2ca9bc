"""The tokenizer of a model's directory."""

import json
import pickle

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from dga_jax.data.store import PAD, Store
from dga_jax.errors import UserError
from dga_jax.huggingface import tokenizer_files
from dga_jax.prepare.assemble import prepare_store
from dga_jax.tokenizer import load_tokenizer

NAMES = ("<|begin|>", "<|end|>", "<|turn|>")
BEGIN, END, TURN = 256, 257, 258


def saved(path, template="<|begin|> $A", **beside):
    """Bytes, three special tokens, and what is put around a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {name: i for i, name in enumerate(alphabet)}
    spec = tokenizers.Tokenizer(models.BPE(vocab, []))
    spec.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spec.add_special_tokens(list(NAMES))
    if template:
        special = [(name, spec.token_to_id(name)) for name in NAMES]
        spec.post_processor = processors.TemplateProcessing(
            template, special_tokens=special
        )
    path.mkdir(exist_ok=True)
    spec.save(str(path / "tokenizer.json"))
    for name, content in beside.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("beside", "end"),
    [
        (
            {"config": {"eos_token_id": END},
             "tokenizer_config": {"eos_token": NAMES[2]}},
            END,
        ),
        (
            {"config": {"eos_token_id": [END, TURN]},
             "tokenizer_config": {"eos_token": NAMES[2]}},
            TURN,
        ),
        ({"config": {}, "tokenizer_config": {"eos_token": NAMES[1]}}, END),
        ({"generation_config": {"eos_token_id": TURN}}, TURN),
    ],
)  # fmt: skip
def test_the_models_config_says_what_ends_a_text(beside, end, tmp_path):
    """Of the file alone it is what the tokenizer's configuration says, as before."""
    assert load_tokenizer(saved(tmp_path, **beside)).end_of_text == end
    named = beside.get("tokenizer_config", {"eos_token": NAMES[2]})["eos_token"]
    alone = load_tokenizer(tmp_path / "tokenizer.json")
    assert alone.end_of_text_name == named
    assert alone.begin_of_text is None


@pytest.mark.parametrize(
    ("template", "begin"),
    [
        ("<|begin|> $A", BEGIN),
        ("<|begin|> $A <|end|>", BEGIN),
        ("$A <|end|>", None),
        ("$A", None),
        ("", None),
    ],
)
def test_what_the_tokenizer_puts_before_a_text(template, begin, tmp_path):
    path = saved(tmp_path, template, config={"eos_token_id": END})
    tokenizer = load_tokenizer(path)
    assert tokenizer.begin_of_text == begin
    assert pickle.loads(pickle.dumps(tokenizer)).begin_of_text == begin
    alone = load_tokenizer(path / "tokenizer.json", NAMES[1])
    assert (alone.digest == tokenizer.digest) == (begin is None)


def test_several_before_a_text(tmp_path):
    path = saved(tmp_path, "<|begin|> <|turn|> $A", config={"eos_token_id": END})
    with pytest.raises(UserError, match="puts 2 tokens before a text"):
        load_tokenizer(path)
    with pytest.raises(UserError, match=r"tokenizer\.json: No such file"):
        load_tokenizer(tmp_path.parent)


def tokens_of(store):
    """Of the first domain, in order."""
    rows = store.read("train", np.arange(store.domains().offsets[1]))
    tokens = np.concatenate([rows[0], rows[1:, 1:].reshape(-1)])
    return tokens[tokens != PAD]


def test_it_stands_before_each_document(byte_corpora, tmp_path):
    """And is text to nobody who counts it."""
    stores = {}
    for name, template in (("with", "<|begin|> $A"), ("without", "$A")):
        path = saved(tmp_path / name, template, config={"eos_token_id": END})
        prepare_store(
            **byte_corpora,
            tokenizer=load_tokenizer(path),
            seq_len=32,
            output=tmp_path / f"{name}-store",
        )
        stores[name] = Store.open(tmp_path / f"{name}-store")
    found, plain = stores["with"], stores["without"]
    assert found.counts == plain.counts
    assert "begin_of_text" not in plain.manifest["tokenizer"]
    assert found.tokenizer().begin_of_text == BEGIN
    assert found.content_hash != plain.content_hash
    tokens = tokens_of(found)
    assert tokens[0] == BEGIN
    ends = np.flatnonzero(tokens[:-1] == END)
    assert (tokens[ends + 1] == BEGIN).all()
    assert np.count_nonzero(tokens == BEGIN) == len(ends) + 1
    texts = found.tokenizer().decode(tokens)
    assert texts == plain.tokenizer().decode(tokens_of(plain))[: len(texts)]
    files = tokenizer_files.files(found.tokenizer(), 32).contents
    names = files["tokenizer_config.json"]
    assert json.loads(names)["bos_token"] == NAMES[0]
    assert json.loads(names)["eos_token"] == NAMES[1]

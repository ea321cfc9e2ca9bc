"""What ends a text is said, never guessed."""

import json
import pickle
import re

import pytest
import tokenizers
import vocabularies
from tokenizers import models, pre_tokenizers

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.tokenizer import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
    stored_tokenizer,
)


def saved(path, specials=(), unmarked=(), **beside):
    """A tokenizer.json of some added tokens, and other files beside it."""
    spec = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, "[UNK]"))
    spec.pre_tokenizer = pre_tokenizers.Whitespace()
    spec.add_special_tokens(list(specials))
    spec.add_tokens(list(unmarked))
    path.mkdir(exist_ok=True)
    spec.save(str(path / "tokenizer.json"))
    for name, content in beside.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path / "tokenizer.json"


GEMMA = ("<pad>", "<eos>", "<bos>", "<end_of_turn>")


@pytest.mark.parametrize(
    ("specials", "unmarked", "beside", "flag", "expected"),
    [
        (GEMMA, ["</s>"], {}, None, "<eos>"),
        (["<|endoftext|>"], [], {}, None, "<|endoftext|>"),
        (GEMMA, ["</s>"], {}, "</s>", "</s>"),
        (["<fin>"], [], {}, "<fin>", "<fin>"),
        (GEMMA, [], {"tokenizer_config": {"eos_token": "<eos>"}}, "a", "a"),
        (
            ["</s>", "<eos>"],
            [],
            {"tokenizer_config": {"eos_token": "<eos>"}, "config": {"eos_token_id": 2}},
            None,
            "<eos>",
        ),
        (["<fin>"], [], {"tokenizer_config": {"eos_token": "<fin>"}}, None, "<fin>"),
        (
            ["<fin>", "</s>"],
            [],
            {
                "tokenizer_config": {"eos_token": None},
                "special_tokens_map": {"eos_token": {"content": "<fin>", "lstrip": 0}},
                "generation_config": {"eos_token_id": 3},
            },
            None,
            "<fin>",
        ),
        (
            ["<fin>", "</s>"],
            [],
            {"generation_config": {"eos_token_id": [2]}, "config": {"eos_token_id": 3}},
            None,
            "<fin>",
        ),
        (
            ["<fin>", "</s>"],
            [],
            {
                "generation_config": {"eos_token_id": [3, 2]},
                "config": {"eos_token_id": 2},
            },
            None,
            "<fin>",
        ),
        (["</s>"], [], {"config": {"eos_token_id": None}}, None, "</s>"),
        (["</s>"], [], {"config": [1]}, None, "</s>"),
    ],
)
def test_what_is_said_holds(tmp_path, specials, unmarked, beside, flag, expected):
    tokenizer = load_tokenizer(saved(tmp_path, specials, unmarked, **beside), flag)
    assert tokenizer.end_of_text_name == expected
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.end_of_text == tokenizer.end_of_text
    assert copy.digest == tokenizer.digest
    stored = stored_tokenizer("huggingface", tmp_path, tokenizer.end_of_text)
    assert stored.digest == tokenizer.digest
    assert stored.end_of_text_name == expected


@pytest.mark.parametrize(
    ("specials", "unmarked", "beside", "flag", "message"),
    [
        (["</s>", "<eos>"], [], {}, None, "several.*'</s>', '<eos>'"),
        ([], ["</s>"], {}, None, "not mark as special.*'</s>'"),
        (["<fin>"], [], {}, None, "no end-of-text token.*'<fin>'"),
        ([], [], {}, None, "no end-of-text token.*'\\[UNK\\]'"),
        (["</s>"], [], {}, "<fin>", "--eos_token=<fin>: .* has no such.*'</s>'"),
        (["</s>"], [], {}, "[UNK]", r"\[UNK\] cannot end a text.*cannot spell"),
        (
            ["</s>"],
            [],
            {"tokenizer_config": {"eos_token": "<fin>"}},
            None,
            r"tokenizer_config\.json says that <fin> ends",
        ),
        (["</s>"], [], {"tokenizer_config": {"eos_token": 7}}, None, "says that 7"),
        (["</s>"], [], {"config": {"eos_token_id": 99}}, None, "token 99 ends"),
        (["</s>"], [], {"config": {"eos_token_id": True}}, None, "token true ends"),
        (
            ["</s>", "<fin>"],
            [],
            {"config": {"eos_token_id": [2, 3]}},
            None,
            r"config\.json has several.*'</s>', '<fin>'",
        ),
    ],
)
def test_what_is_not_said_is_asked(tmp_path, specials, unmarked, beside, flag, message):
    path = saved(tmp_path, specials, unmarked, **beside)
    with pytest.raises(UserError, match=message) as said:
        load_tokenizer(path, flag)
    assert "--eos_token=TEXT" in str(said.value) or flag
    assert "\n" not in str(said.value)
    assert load_tokenizer(path, "a").end_of_text == 0  # the remedy works


def test_a_configuration_that_cannot_be_read(tmp_path):
    path = saved(tmp_path, ["</s>"])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json is not JSON"):
        load_tokenizer(path)
    assert load_tokenizer(path, "</s>").end_of_text_name == "</s>"


def test_bytes_have_their_own():
    with pytest.raises(UserError, match="--eos_token=x: 'bytes' has"):
        load_tokenizer("bytes", "x")


def test_digests_of_before_stay():
    """Stores and runs are known by them; another choice has another."""
    import hashlib

    content = (SAMPLE / "tokenizer.json").read_bytes()
    usual = HuggingFaceTokenizer(content)
    assert usual.digest == hashlib.sha256(content).hexdigest()
    others = {
        HuggingFaceTokenizer(content, eos_token=x).digest for x in ("the", "Ġthe")
    }
    assert len(others | {usual.digest}) == 3
    model = vocabularies.sentence_piece()
    usual = SentencePieceTokenizer(model)
    assert usual.digest == hashlib.sha256(model).hexdigest()
    assert SentencePieceTokenizer(model, eos_token="<s>").digest != usual.digest


def test_a_stored_end_of_text_that_is_not_there(tmp_path):
    saved(tmp_path, ["</s>"])
    with pytest.raises(UserError, match=re.escape("has no token 77")):
        stored_tokenizer("huggingface", tmp_path, 77)
    (tmp_path / "tokenizer.model").write_bytes(vocabularies.sentence_piece())
    with pytest.raises(UserError, match=re.escape("has no piece 777")):
        stored_tokenizer("sentencepiece", tmp_path, 777)


def test_an_end_that_is_refused_now_opens_in_a_store_of_before(tmp_path):
    """There the unknown token ended texts."""
    saved(tmp_path, ["</s>"])
    stored = stored_tokenizer("huggingface", tmp_path, 1)
    assert stored.end_of_text_name == "[UNK]"
    assert stored.decode([0, 1]) == "a [UNK]"

"""No text becomes what ends a text, whatever the vocabulary."""

import json

import numpy as np
import pytest
import tokenizers
import vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import END

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.tokenizing import Tokenize
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import (
    BytesTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
)

real_text = st.text(st.characters(exclude_categories=["Cs"]))


def spelling(name):
    """Texts that are about a name: with it, its parts, and what normalises to it."""
    name = name.replace("Ġ", " ").replace("▁", " ").removeprefix("##")
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name)
    parts = [name, name, wide, name.upper(), f" {name} ", f"\n{name}\n", name + name]
    parts += [*name, name[1:], name[:-1], "the ", "größer", " ", "<", "語"]
    return st.lists(st.one_of(st.sampled_from(parts), real_text)).map("".join)


def special(spec):
    spec.add_special_tokens([END])


def unmarked(**options):
    return lambda spec: spec.add_tokens([tokenizers.AddedToken(END, **options)])


def plain(spec):
    """An entry as any other; merges and sums of scores lead to it."""


ADDED = {
    "special": special,
    "unmarked": unmarked(),
    "stripping": unmarked(lstrip=True, rstrip=True),
    "single word": unmarked(single_word=True),
    "normalized": unmarked(normalized=True),
    "exact": unmarked(normalized=False),
}


def plain_vocabulary(name):
    """A tokenizer.json with the end of text among the entries that text becomes."""
    spec = json.loads(vocabularies.bare(name))
    model = spec["model"]
    if isinstance(model["vocab"], list):
        model["vocab"].append([END, 0.0])
    elif END not in model["vocab"]:
        vocab = model["vocab"]
        prefix = model.get("continuing_subword_prefix") or ""
        if "merges" in model:
            for i in range(1, len(END)):
                for piece in (END[i], prefix + END[i], END[: i + 1]):
                    vocab.setdefault(piece, len(vocab))
                model["merges"].append([END[:i], prefix + END[i]])
            vocab.setdefault(END[0], len(vocab))
        vocab.setdefault(END, len(vocab))
    return json.dumps(spec)


KINDS = {
    f"{kind}, {how}": (kind, how)
    for kind in vocabularies.BARE
    for how in [*ADDED, "plain"]
}


def made(kind, how):
    if how == "plain":
        return HuggingFaceTokenizer(plain_vocabulary(kind).encode(), eos_token=END)
    spec = tokenizers.Tokenizer.from_str(vocabularies.bare(kind))
    ADDED[how](spec)
    return HuggingFaceTokenizer(spec.to_str().encode(), eos_token=END)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(spelling(END), min_size=1, max_size=5))
def test_no_text_ends_inside(kind, texts):
    tokenizer = _made(kind)
    assert tokenizer.end_of_text_name == END
    for ids in tokenizer.encode_batch([END, *texts]):
        assert not (ids == tokenizer.end_of_text).any()


def _made(kind, cache={}):  # noqa: B006 (hypothesis asks for it many times)
    if kind not in cache:
        cache[kind] = made(*KINDS[kind])
    return cache[kind]


def test_without_the_rule_most_of_these_kinds_end_inside():
    """So that the test before cannot pass for want of texts."""
    ending = set()
    for kind, (name, how) in KINDS.items():
        spec = tokenizers.Tokenizer.from_str(vocabularies.bare(name))
        if how == "plain":
            spec = tokenizers.Tokenizer.from_str(plain_vocabulary(name))
        else:
            ADDED[how](spec)
        spec.encode_special_tokens = True
        end = spec.token_to_id(END)
        for text in (END, f"the {END} end", f"{END}{END}"):
            if end in spec.encode(text, add_special_tokens=False).ids:
                ending.add(kind)
    assert len(ending) > len(KINDS) / 2
    assert {"unigram, special", "unigram, plain", "WordLevel, special"} <= ending
    assert {"byte-level, of lines, special", "metaspace, plain"} <= ending


@pytest.mark.parametrize(
    "kind", ["byte-level", "byte-level, of lines", "byte fallback"]
)
@pytest.mark.parametrize("how", [*ADDED, "plain"])
def test_what_spells_the_end_comes_back(kind, how):
    tokenizer = made(kind, how)
    text = f"a {END}b, {END}{END} c"
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.end_of_text]) == text


@pytest.mark.parametrize("kind", ["byte-level", "unigram", "WordPiece", "WordLevel"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_token_may_end_a_text(kind, data):
    content = vocabularies.bare(kind).encode()
    ids = tokenizers.Tokenizer.from_str(content.decode()).get_vocab()
    name = data.draw(st.sampled_from(sorted(ids)))
    try:
        tokenizer = HuggingFaceTokenizer(content, eos_token=name)
    except UserError as error:  # what text cannot do without
        assert "cannot end a text" in str(error)  # noqa: PT017
        assert len(name) == 1 or name in ("<unk>", "[UNK]")
        return
    assert tokenizer.end_of_text == ids[name]
    assert tokenizer.vocab_size == len(ids)
    for encoded in tokenizer.encode_batch(data.draw(st.lists(spelling(name)))):
        assert not (encoded == tokenizer.end_of_text).any()


def test_words_by_table_are_those_of_the_library():
    """A token that is not marked keeps no text from the fast way once it ends texts."""
    spec = tokenizers.Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    spec.add_tokens([END])
    tokenizer = HuggingFaceTokenizer(spec.to_str().encode(), eos_token=END)
    sample = load_tokenizer(SAMPLE / "tokenizer.json")
    assert tokenizer._words
    texts = [f"it ends with {END}, or {END}{END} so", "the cat <|endoftext|>", ""]
    for one, other in zip(
        tokenizer.encode_batch(texts), sample.encode_batch(texts), strict=True
    ):
        np.testing.assert_array_equal(one, other)


SENTENCE_PIECE = {
    "unigram": {},
    "bpe": {"model_type": "bpe", "vocab_size": 80},
    "word": {"model_type": "word", "add_dummy_prefix": False, "vocab_size": 40},
    "char": {"model_type": "char", "vocab_size": 60},
    "byte fallback": {"byte_fallback": True, "vocab_size": 320},
    "symbols": {"user_defined_symbols": ("<eos>", "the", "  ")},
    "control": {"control_symbols": ("<eos>", "t")},
}


@pytest.mark.parametrize("kind", SENTENCE_PIECE)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_piece_may_end_a_text(kind, data):
    content = vocabularies.sentence_piece(**SENTENCE_PIECE[kind])
    model = SentencePieceTokenizer(content)
    pieces = model._model.id_to_piece(list(range(model.vocab_size)))
    pieces[model.end_of_text] = "</s>"
    name = data.draw(st.sampled_from(pieces))
    try:
        tokenizer = SentencePieceTokenizer(content, eos_token=name)
    except UserError as error:
        assert "cannot end a text" in str(error)  # noqa: PT017
        assert name == "<unk>" or name.startswith("<0x")
        return
    assert tokenizer.end_of_text == pieces.index(name)
    assert tokenizer.vocab_size == model.vocab_size
    texts = data.draw(st.lists(spelling(name)))
    for ids in tokenizer.encode_batch([name, *texts]):
        assert not (ids == tokenizer.end_of_text).any()
    if name not in ("".join(texts).replace(" ", "▁")):
        for ids, others in zip(
            tokenizer.encode_batch(["at on"]),
            model.encode_batch(["at on"]),
            strict=True,
        ):
            # A merge may pass through the piece, which is then in none of the results.
            if not any(name in pieces[i] for i in others):
                np.testing.assert_array_equal(ids, others)


def test_a_piece_that_is_not_there():
    content = vocabularies.sentence_piece()
    with pytest.raises(UserError, match=r"--eos_token=<eos>: m\.model has no such"):
        SentencePieceTokenizer(content, "m.model", eos_token="<eos>")
    with pytest.raises(UserError, match="<unk> cannot end a text"):
        SentencePieceTokenizer(content, eos_token="<unk>")
    none = vocabularies.sentence_piece(eos_id=-1)
    with pytest.raises(UserError, match=r"no end-of-text piece.*--eos_token=PIECE"):
        SentencePieceTokenizer(none)
    assert SentencePieceTokenizer(none, eos_token="eos").end_of_text_name == "eos"


def test_an_unknown_token_that_no_text_needs():
    """As vocabularies of GPT-2's kind have it: all is one special token."""
    spec = tokenizers.Tokenizer.from_str(vocabularies.bare("byte-level"))
    spec.add_special_tokens([END])
    content = json.loads(spec.to_str())
    content["model"]["vocab"][END] = spec.token_to_id(END)
    content["model"]["unk_token"] = END
    tokenizer = HuggingFaceTokenizer(json.dumps(content).encode(), eos_token=END)
    (ids,) = tokenizer.encode_batch([f"größer {END}"])
    assert tokenizer.decode(ids) == f"größer {END}"
    assert tokenizer.unknown is None


class Ending(BytesTokenizer):
    """Makes its end of text of a letter."""

    def encode_batch(self, texts):
        found = super().encode_batch(texts)
        return [np.where(ids == ord("z"), 256, ids) for ids in found]


def test_the_last_guard(tmp_path):
    path = tmp_path / "words.jsonl"
    path.write_text('{"text": "the end"}\n{"text": "of jazz"}\n')
    shard = Shard.of(path)
    step = Tokenize(Folder.of(tmp_path / "tokens"), Ending())
    with pytest.raises(UserError, match=r"words\.jsonl: .*'of jazz'.*--eos_token"):
        step(shard, lambda count: None)
    assert not step.result.is_done(shard)

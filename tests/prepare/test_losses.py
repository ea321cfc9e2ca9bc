"""What a tokenizer loses of the text is told."""

import json
import re
import shlex

import pytest
import tokenizers
import vocabularies
from test_prepare import fails, part, run

from dga_jax.data.store import Store
from dga_jax.prepare.commands import summary
from dga_jax.tokenizer import SentencePieceTokenizer

ENGLISH = [f"the cat {'sat ' * (i % 9)}on the mat" for i in range(60)]


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def flags(tmp_path):
    write(tmp_path / "english.jsonl", ENGLISH)
    mixed = [f"{text} 漢字 ЖЖ" for text in ENGLISH]
    write(tmp_path / "other.jsonl", [*mixed, "", " "])
    write(tmp_path / "target.jsonl", ENGLISH[:20])
    return [
        f"--generic={tmp_path}/english.jsonl,{tmp_path}/other.jsonl",
        f"--target={tmp_path}/target.jsonl",
        f"--output={tmp_path}/store",
    ]


def test_unknown_tokens_empty_documents_and_padding(tmp_path, flags):
    content = vocabularies.sentence_piece()
    (tmp_path / "m.model").write_bytes(content)
    result = run(*flags, f"--tokenizer={tmp_path}/m.model", "--seq_len=700")
    assert result.returncode == 0, result.stderr
    tokenizer = SentencePieceTokenizer(content)
    lost = total = 0
    for text in (tmp_path / "other.jsonl").read_text().splitlines():
        (ids,) = tokenizer.encode_batch([json.loads(text)["text"].strip()])
        lost, total = lost + (ids == tokenizer.unknown).sum(), total + len(ids)
    warnings = [x for x in result.stderr.splitlines() if x.startswith("warning: ")]
    assert f"{lost / total:.1%} of the tokens of other are unknown" in warnings[0]
    assert "byte_fallback=true" in warnings[0]
    assert f"{2 / 62:.1%} of the documents of other have no token" in warnings[1]
    assert re.search(
        r"of the training rows is padding, of (english|other)", warnings[2]
    )
    assert len(warnings) == 3
    counts = Store.open(tmp_path / "store").counts
    assert counts["generic"]["unknown"] == lost
    assert counts["generic"]["blank"] == 2
    assert counts["generic"]["documents"] == 120
    assert counts["target"]["unknown"] == 0
    share = lost / counts["generic"]["text_tokens"]
    assert f"Unknown tokens: {share:.2%}, of the target 0.00%." in result.stdout
    printed = run("inspect", f"{tmp_path}/store", "--rows=0").stdout
    assert "120 documents, 2 without a token" in printed
    assert f"{share:.2%} of them unknown" in printed
    assert "end of text 2 (</s>)" in printed
    assert run("verify", f"{tmp_path}/store").returncode == 0


def test_what_ends_a_text_is_asked_for(tmp_path, flags):
    """As for a vocabulary of Gemma's kind, of which HTML tags are entries."""
    spec = tokenizers.Tokenizer.from_str(vocabularies.bare("byte-level"))
    spec.add_special_tokens(["<|im_end|>", "<eos>"])
    spec.add_tokens(["</s>"])
    spec.save(str(tmp_path / "tokenizer.json"))
    flags += [f"--tokenizer={tmp_path}/tokenizer.json", "--seq_len=16"]
    said = fails(*flags)
    choices = re.search("several tokens that may end a text: (.*); say which", said)
    assert shlex.split(choices[1].replace(",", "")) == ["<eos>", "<|im_end|>"]
    result = run(*flags, "--eos_token=<eos>")
    assert result.returncode == 0, result.stderr
    assert "of the tokens" not in result.stderr
    assert Store.open(tmp_path / "store").manifest["end_of_text"] == "<eos>"


def losing(name, **fields):
    import dataclasses

    return dataclasses.replace(part(name, 100), **fields)


def test_each_warning_names_the_worst():
    fine = losing("fine", unknown=9)
    target = losing("target")
    assert not list(summary.warnings([fine, target], clustered=False))
    bad, worse = losing("bad", unknown=20), losing("worse", unknown=300)
    (said,) = summary.warnings([fine, worse, bad, target], clustered=False)
    assert "30.0% of the tokens of worse are unknown, and 11.0% of the corpus" in said
    (said,) = summary.warnings([fine, losing("target", unknown=50)], clustered=False)
    assert "5.0% of the tokens of target" in said
    (said,) = summary.warnings([losing("gaps", blank=1), target], clustered=False)
    assert "9.1% of the documents of gaps have no token" in said
    half = losing("half", padding=0.5)
    (said,) = summary.warnings([fine, half, target], clustered=True)
    assert "25.2% of the training rows is padding, of half 50.0%" in said
    assert "fewer clusters" in said
    (said,) = summary.warnings([fine, half, target], clustered=False)
    assert "--generic=NAME=PATTERN" in said

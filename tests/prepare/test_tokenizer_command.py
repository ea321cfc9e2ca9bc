import json
import shlex

import pytest
from test_prepare import TARGET, fails, run

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import Store
from dga_jax.prepare.commands.verify import verify
from dga_jax.tokenizer import load_tokenizer

GENERIC = f"{SAMPLE}/generic/[ad]*.xz"


def train(output, *flags):
    return run("tokenizer", f"--generic={GENERIC}", f"--output={output}", *flags)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "mine.json"
    result = train(output, "--vocab_size=600", "--sample_mb=0.3")
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def test_trains_a_tokenizer(made):
    output, printed = made
    tokenizer = load_tokenizer(output)
    assert tokenizer.vocab_size == 600
    text = "Any text: größer, 語, 🎈\0\n <|endoftext|>"
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert [path.name for path in output.parent.iterdir()] == ["mine.json"]
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert rows["austen"][1] == "268"
    assert 1.5 < float(rows["dm_math"][-1]) < float(rows["austen"][-1]) < 4
    learnt = float(rows["austen"][-2]) + float(rows["dm_math"][-2])
    assert learnt == pytest.approx(0.3, abs=0.02)


def test_the_command_it_prints_works(made, tmp_path):
    output, printed = made
    line = next(x for x in printed.splitlines() if f"--tokenizer={output}" in x)
    flags = shlex.split(line)[3:]
    flags = [f for f in flags if not f.startswith(("--target", "--output", "--seq"))]
    result = run(
        *flags, f"--target={TARGET}", "--seq_len=64", f"--output={tmp_path}/store"
    )
    assert result.returncode == 0, result.stderr
    store = Store.open(tmp_path / "store")
    assert store.tokenizer().digest == load_tokenizer(output).digest
    verify(store)


def test_the_same_again(made, tmp_path):
    output, _ = made
    again, other = tmp_path / "again.json", tmp_path / "other.json"
    train(again, "--vocab_size=600", "--sample_mb=0.3")
    train(other, "--vocab_size=600", "--sample_mb=0.3", "--seed=1", "--domains=even")
    assert again.read_bytes() == output.read_bytes() != other.read_bytes()


def test_a_text_with_few_pairs(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text('{"text": "ab ab ab"}\n{"text": " "}\n')
    result = run(
        "tokenizer", f"--generic={path}", f"--output={tmp_path}/t.json", "--seed=3"
    )
    assert result.returncode == 0, result.stderr
    assert "no more pairs that occur twice: 259 tokens, not 8,192" in result.stdout
    assert "4.00*" in result.stdout or "2.67*" in result.stdout
    assert "* on those that were" in result.stdout


def test_errors_are_one_line(made, tmp_path):
    blank = tmp_path / "blank.jsonl"
    blank.write_text(json.dumps({"text": " "}) + "\n")
    given = {
        "generic": GENERIC,
        "output": str(tmp_path / "t.json"),
    }
    for change, message in [
        ({"generic": None}, "--generic is missing"),
        ({"output": None}, "--output"),
        ({"vocab_size": 256}, "--vocab_size=256: at least 257"),
        ({"generic": str(blank)}, "holds no text"),
        ({"generic": f"{tmp_path}/*.zst"}, "no file matches"),
        ({"output": str(made[0])}, "exists; remove it or choose another --output"),
        ({"output": f"{tmp_path}/none/t.json"}, "cannot write to"),
        ({"sample_mb": 0}, "sample_mb"),
        ({"domains": "odd"}, "domains"),
    ]:
        flags = {k: v for k, v in (given | change).items() if v is not None}
        assert message in fails("tokenizer", *[f"--{k}={v}" for k, v in flags.items()])
    assert "put globs into quotes" in fails("tokenizer", "--output=x", "a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["blank.jsonl"]

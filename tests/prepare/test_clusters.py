"""Clusters from the command line: a store, its description, a basis, training."""

import json
import os

import pytest
from test_prepare import TARGET, fails, run
from texts import write_beginnings

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import Store

GENERIC = f"{SAMPLE}/generic/*.xz"


def flags_of(output, **changes):
    given = {
        "generic": GENERIC,
        "target": TARGET,
        "tokenizer": f"{SAMPLE}/tokenizer.json",
        "seq_len": "64",
        "cluster": "8,4",
        "output": str(output),
    }
    return [f"--{k}={v}" for k, v in (given | changes).items() if v is not None]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of clusters of the sample, and what was printed."""
    folder = tmp_path_factory.mktemp("made")
    generic = write_beginnings(tmp_path_factory.mktemp("texts"))
    result = run(*flags_of(folder / "store", generic=generic))
    assert result.returncode == 0, result.stderr
    assert os.listdir(folder) == ["store"]
    return Store.open(folder / "store"), result.stdout


def test_says_what_it_made(made):
    store, printed = made
    assert store.branching == (8, 4)
    rows = store.domains(1).num_rows.sum()
    places = rows * store.seq_len
    padding = places - store.domains(1).tokens.sum()
    assert f"{padding:,} of {places:,} places" in printed
    assert "level 1: 32 clusters" in printed
    assert "--config.data.level=1" in printed


def test_describes_it(made, tmp_path):
    store, _ = made
    page = tmp_path / "page.html"
    result = run("describe", str(store.path), f"--html={page}")
    assert result.returncode == 0, result.stderr
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<section") == 8
    assert text.count("<li>") == 24
    assert "<script" not in text
    tokens = store.domains(0).tokens
    for i in range(8):
        assert f"({tokens[i]:,}, {store.domains(0).num_rows[i]:,} rows" in result.stdout
        assert f"{tokens[i]:,} in" in text
    # The source of Python has a cluster, and words that tell it.
    assert any(
        {"self", "def", "return"} <= set(line.strip().split(", "))
        for line in result.stdout.splitlines()
    )
    missing = tmp_path / "nowhere" / "page.html"
    assert "--html" in fails("describe", str(store.path), f"--html={missing}")


def test_bases(made, tmp_path):
    store, _ = made
    questions = [
        {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1, "subject": s}
        for s in ("college mathematics", "astronomy", "world religions")
    ]
    path = tmp_path / "mmlu.jsonl"
    path.write_text("".join(json.dumps(q) + "\n" for q in questions))
    make = ["basis", str(store.path), "--name=mmlu"]
    group = [f"--references={path}", "--group_by=supercategory"]
    result = run(*make, *group)
    assert result.returncode == 0, result.stderr
    assert "STEM" in result.stdout
    assert "2 documents" in result.stdout
    assert "--config.mixer.basis=mmlu" in result.stdout
    text = tmp_path / "a.txt"
    text.write_text("a")
    for words, message in [
        ([*make, *group], "exists; choose another --name"),
        *(
            ([*make[:2], "--name=x", group[1], *others], message)
            for others, message in [
                ([f"--references={path},m={path}"], "cannot group what has a name"),
                ([f"--references={path},{text}"], "files of text have no field"),
                ([f"--references=text:{path}"], "files of text have no field"),
                ([group[0], "--domain_field=subject"], "give one of them"),
            ]
        ),
        ([*make[:2], "--name=other"], "--references is missing"),
        ([*make[:2], "--name=a b", *group], "a name has letters"),
        ([*make[:2], "--name=x", *group[:1], "--group_by=topic"], "no field 'topic'"),
        ([*make[:1], "--name=x", *group], "basis takes one store"),
    ]:
        assert message in fails(*words)
    assert os.listdir(store.path / "bases") == ["mmlu.npz"]


@pytest.mark.parametrize("command", ["", "tokenizer", "tokenizer even", "basis"])
@pytest.mark.parametrize("second", [{"text": "b"}, {"text": "b", "domain": "wiki"}])
def test_a_domain_has_one_source_in_every_command(made, tmp_path, command, second):
    paths = [tmp_path / name / "wiki.jsonl" for name in "ab"]
    for path, item in zip(paths, ({"text": "a"}, second), strict=True):
        path.parent.mkdir()
        path.write_text(json.dumps(item) + "\n")
    store, output = str(made[0].path), tmp_path / "output"
    generic = ",".join(map(str, paths))
    words = {
        "": flags_of(output, generic=generic, tokenizer="bytes", cluster=None),
        "tokenizer": ["tokenizer", f"--generic={generic}", f"--output={output}"],
        "basis": ["basis", store, "--name=wikis", f"--references={generic}"],
    }
    words["tokenizer even"] = [*words["tokenizer"], "--domains=even"]
    message = fails(*words[command])
    other = f"the documents of {paths[1]}" if "domain" in second else tmp_path / "b"
    assert f"'wiki' comes from two sources, {tmp_path}/a/wiki and {other}" in message
    assert "NAME=PATTERN" in message
    assert not output.exists()
    assert not (made[0].path / "bases" / "wikis.npz").exists()


def test_errors_are_one_line_and_leave_nothing(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": " "}\n')
    for change, message in [
        ({"cluster": "64,64,64"}, "makes 262,144 clusters of"),
        ({"cluster": "8,x"}, "--cluster=8,x: numbers of children"),
        ({"cluster": "8,1"}, "--cluster=8,1: every level"),
        ({"cluster": "8", "max_imbalance": "0.5"}, "max_imbalance 0.5"),
        ({"embedding": "glove"}, "embedding"),
        (
            {"embedding": "minilm", "embedding_model": str(tmp_path)},
            "model.safetensors",
        ),
        ({"target": str(empty)}, "holds no text"),
        ({"generic": str(empty)}, "holds no text"),
    ]:
        output = tmp_path / f"store{len(os.listdir(tmp_path))}"
        assert message in fails(*flags_of(output, **change)), change
        assert not output.exists()


def test_contaminated_documents_are_dropped(made, tmp_path):
    target = tmp_path / "target.jsonl"
    text = "Python is an easy to learn, powerful programming language of our time. "
    target.write_text("".join(json.dumps({"text": text * 9}) + "\n" for _ in range(20)))
    generic = tmp_path / "generic.jsonl"
    texts = ["It is a truth universally acknowledged " * 9] * 30 + [f"So: {text * 3}"]
    generic.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for mode, documents in (("report", 31), ("drop", 30)):
        output = tmp_path / mode
        result = run(
            *flags_of(
                output,
                generic=generic,
                target=target,
                tokenizer="bytes",
                cluster=None,
                contamination=mode,
            )
        )
        assert result.returncode == 0, result.stderr
        said = result.stdout + result.stderr
        assert "20 of 20 evaluation documents" in said
        assert "1 of its 31 documents" in said
        row = next(x for x in result.stdout.splitlines() if x.startswith("generic"))
        assert row.split()[1] == str(documents)


def test_fewer_kinds_of_documents_than_clusters(tmp_path):
    """Clusters stay empty, and nothing minds."""
    texts = ["All happy families are alike. " * 9] * 40 + ["x", "7"]
    generic = tmp_path / "generic.jsonl"
    generic.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    output = tmp_path / "store"
    result = run(
        *flags_of(output, generic=str(generic), tokenizer="bytes", cluster="4,3")
    )
    assert result.returncode == 0, result.stderr
    assert "10 of them empty" in result.stdout
    rows = Store.open(output).domains(0).num_rows
    assert (rows > 0).sum() == 2
    result = run("describe", str(output))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("1 cluster inside") == 2

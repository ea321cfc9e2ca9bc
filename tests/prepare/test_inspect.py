import numpy as np
import pytest
from test_prepare import fails, run

from dga_jax.data.row_text import row_lines, visible
from dga_jax.tokenizer import BytesTokenizer


@pytest.fixture(scope="module")
def printed(sample_store):
    result = run("inspect", str(sample_store.path))
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_says_what_a_store_holds(sample_store, printed):
    assert sample_store.content_hash in printed
    assert "huggingface, 2,048 tokens" in printed
    assert "rows of 128 + 1 tokens in 2 bytes each" in printed
    assert "documents of one domain, one behind the other" in printed
    for split, entry in sample_store.manifest["splits"].items():
        line = next(x for x in printed.splitlines() if x.startswith(f"{split} "))
        assert f"{entry['rows']:,}" in line
        assert entry["sha256"][:16] in line
    domains = sample_store.domains()
    for name, tokens in zip(domains.names, domains.tokens, strict=True):
        line = next(x for x in printed.splitlines() if x.startswith(f"{name} "))
        assert f"{tokens:,}" in line
    assert printed.count("train row ") == 3


def test_rows_of_one_domain(sample_store):
    flags = ["--rows=2", "--split=heldout", "--domain=python_code"]
    result = run("inspect", str(sample_store.path), *flags)
    assert result.stdout.count("heldout row ") == 2
    titles = [x for x in result.stdout.splitlines() if x.startswith("heldout row ")]
    assert all(title.endswith(", python_code") for title in titles)
    assert run("inspect", str(sample_store.path), "--rows=0").stdout.count(" | ") == 0


def test_clusters(cluster_store):
    result = run("inspect", str(cluster_store.path), "--level=1", "--split=target")
    assert result.returncode == 0, result.stderr
    assert "0: 6; 1: 30" in result.stdout
    assert "6 x 5, of tfidf" in result.stdout
    assert "5.4 " in result.stdout
    assert "target row " in result.stdout


def test_of_many_domains_the_largest(cluster_store, monkeypatch):
    from dga_jax.prepare.commands import inspect

    monkeypatch.setattr(inspect, "_SHOWN_DOMAINS", 4)
    domains = cluster_store.domains(1)
    lines = inspect.domains_table(cluster_store, domains).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "... and 26 smaller ones"
    largest = np.sort(np.argsort(-domains.tokens, kind="stable")[:4])
    assert [line.split()[0] for line in lines[1:5]] == [
        domains.names[i] for i in largest
    ]


def row(text, padding=0):
    tokens = [256 if c == "$" else c.encode()[0] for c in text]
    return np.array(tokens + [-1] * padding)


def test_ends_and_padding_show():
    tokenizer = BytesTokenizer()
    assert row_lines(tokenizer, row("one$two$", padding=3)) == [
        "one⟨end of text⟩",
        "two⟨end of text⟩",
        "⟨3 x padding⟩",
    ]
    assert row_lines(tokenizer, row("$a\n\n  b")) == ["⟨end of text⟩", "a", "", "  b"]
    assert row_lines(tokenizer, row("a", padding=2)) == ["a", "⟨2 x padding⟩"]
    long = row_lines(tokenizer, row("x\n" * 100 + "$", padding=1), 16, 6)
    assert len(long) == 23
    assert long[16] == "⟨80 more lines⟩"
    assert long[-1] == "⟨1 x padding⟩"


def test_a_terminal_is_safe():
    assert visible("\x1b[31m\r\b\x7f\u202e\u200b\x9b") == (
        r"\x1b[31m\r\x08\x7f\u202e\u200b\x9b"
    )
    (line,) = row_lines(BytesTokenizer(), row("\x1b]0;x\x07\x00"))
    assert line == r"\x1b]0;x\x07\x00"
    assert all(len(line) <= 84 for line in row_lines(BytesTokenizer(), row("ab " * 99)))


def test_errors_are_one_line(sample_store, tmp_path):
    path = str(sample_store.path)
    for flags, message in [
        ([], "inspect takes one store"),
        ([str(tmp_path)], "is not a store"),
        ([path, "--level=1"], "--level=1: store"),
        ([path, "--domain=french"], "no such domain; it begins with austen"),
        ([path, "--split=target", "--domain=austen"], "rows of target have no domain"),
        ([path, "--split=test"], "split"),
    ]:
        assert message in fails("inspect", *flags)

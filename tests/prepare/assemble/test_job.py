import collections
import itertools
import json
import os
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import clustered

from dga_jax.data import bases
from dga_jax.data.store import PAD, Store
from dga_jax.errors import UserError
from dga_jax.prepare import corpus as corpus_module
from dga_jax.prepare.assemble import LeaveOut, folder, layout, prepare_store
from dga_jax.prepare.assemble.clustering import ClusterOptions
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Fields, Shard, expand, parse_filter
from dga_jax.tokenizer import BytesTokenizer

WORDS = ["It", "was", "the", "best", "of", "times,", "it", "was", "the", "worst"]


def write(path: pathlib.Path, texts, **fields) -> pathlib.Path:
    items = ({"text": text} | fields for text in texts)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def prepare(directory, generic, target=("dog " * 50,) * 20, target_eval=(), seq_len=16):
    """Prepares domains {name: texts} as bytes; the store and what was reported."""
    files = [write(directory / f"{name}.jsonl", generic[name]) for name in generic]
    evals = [write(directory / "eval.json", target_eval)] if target_eval else []
    prepared = prepare_store(
        generic=Corpus(tuple(map(Shard.of, files))),
        target=Corpus((Shard.of(write(directory / "target.json", target)),)),
        target_eval=Corpus(tuple(map(Shard.of, evals))) if evals else None,
        tokenizer=BytesTokenizer(),
        seq_len=seq_len,
        output=directory / "store",
    )
    return Store.open(directory / "store"), prepared.outcomes


def stream(rows: np.ndarray) -> list[int]:
    """The tokens that consecutive rows were cut from."""
    if not len(rows):
        return []
    targets = rows[:, 1:].ravel()
    return [int(rows[0, 0]), *targets[targets != PAD].tolist()]


def split_streams(store, split, offsets):
    rows = store.read(split, np.arange(store.num_rows(split)))
    return [stream(rows[a:b]) for a, b in itertools.pairwise(offsets)]


def tokens_of(texts) -> list[int]:
    return [token for text in texts for token in [*text.encode(), 256]]


documents = st.lists(st.sampled_from(WORDS), min_size=3, max_size=70)


@settings(max_examples=25, deadline=None)
@given(
    corpus=st.dictionaries(st.sampled_from("abc"), documents, min_size=1),
    seq_len=st.integers(1, 40),
)
def test_every_domain_is_all_there(tmp_path_factory, corpus, seq_len):
    directory = tmp_path_factory.mktemp("build")
    store, parts = prepare(directory, corpus, seq_len=seq_len)
    domains = store.domains()
    assert list(domains.names) == sorted(corpus) == [part.name for part in parts[:-1]]
    train = split_streams(store, "train", domains.offsets)
    heldout = split_streams(store, "heldout", domains.heldout_offsets)
    for i, name in enumerate(domains.names):
        texts = corpus[name]
        assert domains.num_rows[i] == -(-domains.tokens[i] // seq_len)
        assert domains.tokens[i] == len(train[i]) - 1
        if len(texts) >= 20:
            assert train[i] == tokens_of(t for j, t in enumerate(texts) if j % 20 != 19)
            assert heldout[i] == tokens_of(texts[19::20])
        else:
            # The end of the stream is held out; one token lies at the border.
            assert train[i][-1] == heldout[i][0]
            assert train[i] + heldout[i][1:] == tokens_of(texts)
            assert domains.num_rows[i] == 1 or (len(train[i]) - 1) % seq_len == 0


def test_reports_what_it_did(tmp_path):
    texts = ["abc", " ", "defg" * 30, "", "ü"] * 8
    store, parts = prepare(tmp_path, {"d": texts, "e": ["x" * 100] * 40})
    part = parts[0]
    assert (part.documents, part.blank) == (24, 16)
    assert part.text_bytes == part.text_tokens == 8 * (3 + 120 + 2)
    assert part.rows == store.domains().num_rows[0]
    assert part.tokens == store.domains().tokens[0]
    rows = store.read("train", np.arange(part.rows))
    assert part.padding == pytest.approx((rows[:, 1:] == PAD).mean())


@pytest.mark.parametrize("evals", [(), ("cat", "bird")])
def test_target(tmp_path, evals):
    texts = [f"dog {i}" for i in range(12)]
    store, _ = prepare(tmp_path, {"d": WORDS}, texts, evals)
    aside = [] if evals else texts[4::5]
    kept = [text for text in texts if text not in aside]
    for split, expected in [("target", kept), ("target_eval", evals or aside)]:
        rows = store.read(split, np.arange(store.num_rows(split)))
        assert stream(rows) == tokens_of(expected)
        tokens = store.manifest["splits"][split]["tokens"]
        assert tokens == len(tokens_of(expected)) - 1


def test_a_target_of_one_document_is_divided(tmp_path):
    store, _ = prepare(tmp_path, {"d": WORDS}, ["dog " * 40])
    assert store.num_rows("target") == 8
    assert store.num_rows("target_eval") == 2


def test_same_text_same_bytes(tmp_path, monkeypatch):
    corpus = dict.fromkeys("cab", WORDS * 20)
    first = tmp_path / "1"
    second = tmp_path / "2"
    first.mkdir()
    second.mkdir()
    store, _ = prepare(first, corpus)
    # Neither the order of domains nor the size of pieces and segments may show.
    monkeypatch.setattr(corpus_module, "_PIECE_BYTES", 10)
    monkeypatch.setattr(layout, "_SEGMENTS", 2)
    again, _ = prepare(second, dict(reversed(corpus.items())))
    assert store.content_hash == again.content_hash
    names = sorted(os.listdir(store.path))
    assert names == sorted(os.listdir(again.path))
    for name in names:
        assert (store.path / name).read_bytes() == (again.path / name).read_bytes()


def test_other_text_other_hash(tmp_path):
    hashes = set()
    for name, text in [("d", "abc"), ("e", "abc"), ("e", "abd")]:
        directory = tmp_path / f"{name}{text}"
        directory.mkdir()
        hashes.add(prepare(directory, {name: [text] * 40})[0].content_hash)
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("corpus", "target", "message"),
    [
        ({"hollow": []}, ["dog"], r"hollow\.jsonl holds no text"),
        ({"a": ["", " "], "b": []}, ["dog"], r"a\.jsonl and 1 more holds no text"),
        ({"good": WORDS}, [], r"target\.json holds no text"),
        ({"good": WORDS}, ["a"], "the target has too little text: 2 tokens"),
    ],
)
def test_too_little_text(tmp_path, corpus, target, message):
    with pytest.raises(UserError, match=message):
        prepare(tmp_path, corpus, target)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_domain_too_small_to_be_divided_is_trained_on(tmp_path):
    store, parts = prepare(tmp_path, {"good": WORDS, "tiny": ["a"]})
    domains = store.domains()
    assert domains.names == ("good", "tiny")
    assert domains.num_rows.tolist()[1] == 1
    assert domains.num_heldout.tolist()[1] == 0
    assert (parts[1].rows, parts[1].heldout_rows, parts[1].tokens) == (1, 0, 1)
    train = split_streams(store, "train", domains.offsets)
    assert train[1] == tokens_of(["a"])


def test_files_without_text_are_passed_over(tmp_path):
    """The store is the one of the others."""
    first, second = tmp_path / "1", tmp_path / "2"
    for directory in (first, second):
        directory.mkdir()
    store, _ = prepare(first, {"good": WORDS, "more": WORDS[::-1]})
    corpus = {"empty": [], "good": WORDS, "hollow": ["", " "], "more": WORDS[::-1]}
    again, parts = prepare(second, corpus)
    assert again.content_hash == store.content_hash
    assert [part.name for part in parts] == ["good", "more", "target"]


def test_a_domain_that_a_user_named_without_text(tmp_path):
    good, empty = write(tmp_path / "a.jsonl", WORDS), write(tmp_path / "b.jsonl", [" "])
    with pytest.raises(UserError, match=f"x={empty} holds no text"):
        prepare_store(
            generic=Corpus(tuple(expand([str(good), f"x={empty}"]))),
            target=Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
            tokenizer=BytesTokenizer(),
            seq_len=8,
            output=tmp_path / "store",
        )


def test_domains_of_which_no_text_is_left_are_told(tmp_path):
    path = write(tmp_path / "a.jsonl", [""], domain="hollow")
    with open(path, "a") as file:
        for domain, text in [("good", "a b"), ("good", "c"), ("twice", "a b")]:
            file.write(json.dumps({"text": text, "domain": domain}) + "\n")
    prepared = prepare_store(
        generic=Corpus((Shard.of(path),)),
        target=Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
        tokenizer=BytesTokenizer(),
        seq_len=8,
        output=tmp_path / "store",
        leave_out=LeaveOut(duplicates=True),
    )
    assert prepared.passed_over.domains == ["hollow", "twice"]
    assert Store.open(tmp_path / "store").domains().names == ("good",)
    assert [part.name for part in prepared.outcomes] == ["good", "target"]


def test_domains_of_one_file_each_are_told(tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", WORDS) for name in ("x", "y", "z_1")]
    files += [write(tmp_path / "own.jsonl", WORDS, domain="named")]
    files += [write(tmp_path / "z_2.jsonl", WORDS)]
    prepared = prepare_store(
        generic=Corpus(tuple(expand(map(str, files)))),
        target=Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
        tokenizer=BytesTokenizer(),
        seq_len=8,
        output=tmp_path / "store",
    )
    assert prepared.single == ["x", "y"]


def test_filters_that_leave_nothing(tmp_path):
    fields = Fields(filters=(parse_filter("n>1"),))
    path = write(tmp_path / "a.jsonl", WORDS, n=1)
    with pytest.raises(
        UserError, match=r"no document of .*a\.jsonl meets --filter: n>1"
    ):
        prepare_store(
            generic=Corpus((Shard.of(path, fields),)),
            target=Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
            tokenizer=BytesTokenizer(),
            seq_len=8,
            output=tmp_path / "store",
        )
    assert not (tmp_path / "store").exists()


def test_very_long_rows(tmp_path):
    """A file of them is gone through in parts that fit into memory."""
    store, _ = prepare(tmp_path, {"d": WORDS * 100}, seq_len=1 << 22)
    assert store.num_rows("train") == 1


def test_the_list_of_what_is_left_out_names_files(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for i, text in enumerate(["one " * 20, "two " * 20, "one " * 20]):
        (texts / f"{i}.txt").write_text(text)
    (texts / os.fsdecode(b"\xe9.txt")).write_text("two " * 20)
    prepare_store(
        generic=Corpus(tuple(expand([str(texts)]))),
        target=Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
        tokenizer=BytesTokenizer(),
        seq_len=8,
        output=tmp_path / "store",
        leave_out=LeaveOut(duplicates=True, listed=str(tmp_path / "list")),
    )
    lines = (tmp_path / "list").read_text(encoding="utf-8").splitlines()
    assert [os.path.basename(json.loads(line)["file"]) for line in lines] == [
        "2.txt",
        "\udce9.txt",
    ]


def test_tokens_that_were_cut(tmp_path):
    given = {
        "generic": Corpus((Shard.of(write(tmp_path / "a.jsonl", WORDS)),)),
        "target": Corpus((Shard.of(write(tmp_path / "t.jsonl", WORDS)),)),
        "tokenizer": BytesTokenizer(),
        "seq_len": 8,
        "work": tmp_path / "work",
    }
    prepare_store(**given, output=tmp_path / "store")
    for path in (tmp_path / "work").rglob("*.tokens"):
        path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"000000\.tokens is damaged; remove"):
        prepare_store(**given, output=tmp_path / "other")


@pytest.mark.parametrize("free", [10, 3000])
def test_too_little_space_before_reading_or_writing(tmp_path, monkeypatch, free):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="not enough disk"):
        prepare(tmp_path, {"d": ["a"] * 60}, ["dog"] * 10, seq_len=2000)
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "store.work").exists() == (free == 3000)  # there are tokens


def test_a_file_has_one_purpose(tmp_path):
    path = write(tmp_path / "a.jsonl", WORDS)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    for files in [
        {"generic": [path], "target": [link]},
        {"generic": [write(tmp_path / "b", WORDS)], "target": [path, path]}
        | {"target_eval": [link]},
    ]:
        with pytest.raises(UserError, match=re.escape(f"{link} is in both")):
            prepare_store(
                **{
                    flag: Corpus(tuple(map(Shard.of, paths)))
                    for flag, paths in files.items()
                },
                tokenizer=BytesTokenizer(),
                seq_len=8,
                output=tmp_path / "store",
            )


def test_rows_never_mix_finest_clusters(cluster_store, byte_corpora, tmp_path):
    clusters, _ = clustered(byte_corpora["generic"], ClusterOptions((6, 5)), tmp_path)
    finest = cluster_store.domains(1)
    train = split_streams(cluster_store, "train", finest.offsets)
    heldout = split_streams(cluster_store, "heldout", finest.heldout_offsets)
    texts = [document.text for document in byte_corpora["generic"].documents()]
    expected = collections.defaultdict(list)
    held = collections.defaultdict(list)
    order = np.argsort(clusters, kind="stable")
    place = collections.Counter()
    for i in order:
        cluster = clusters[i]
        place[cluster // 5] += 1
        aside = place[cluster // 5] % 20 == 0
        (held if aside else expected)[cluster].append(texts[i])
    for cluster in range(30):
        if place[cluster // 5] >= 20:
            assert train[cluster] == tokens_of(expected[cluster])
            assert heldout[cluster] == tokens_of(held[cluster])


def test_levels_nest(cluster_store):
    coarse, fine = cluster_store.domains(0), cluster_store.domains(1)
    assert list(coarse.names) == list("012345")
    assert fine.names[13] == "2.3"
    np.testing.assert_array_equal(coarse.offsets, fine.offsets[::5])
    np.testing.assert_array_equal(coarse.heldout_offsets, fine.heldout_offsets[::5])
    np.testing.assert_array_equal(coarse.tokens, fine.tokens.reshape(6, 5).sum(axis=1))
    assert (coarse.num_heldout > 0).all()


def test_the_targets_histogram_leaves_its_evaluation_part_out(byte_corpora, tmp_path):
    prepare_store(
        generic=byte_corpora["generic"],
        target=byte_corpora["target"],
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=tmp_path / "store",
        clusters=ClusterOptions((4,)),
    )
    histogram = bases.target_histogram(Store.open(tmp_path / "store"))
    assert histogram.documents.tolist() == [24]

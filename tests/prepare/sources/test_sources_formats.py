"""The same documents from every kind of source."""

import gzip
import itertools
import json
import lzma
import operator
import pickle
import shutil
import subprocess
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.prepare.sources import (
    Fields,
    Shard,
    expand,
    parse_filter,
    read_documents,
)

KINDS = ("austen", "dm_math", "wordnet")


def read(*patterns, **fields):
    shards = expand(patterns, Fields(**fields))
    return [document for shard in shards for document in read_documents(shard)]


def plain(documents):
    """What does not depend on where documents were read from, in one order."""
    return sorted((d.domain, d.identifier, d.text, d.num_bytes) for d in documents)


def write_lines(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(item) + "\n" for item in items).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(scope="module")
def items():
    """Real documents, some of them with more than ASCII."""
    found = []
    for kind in KINDS:
        with lzma.open(SAMPLE / "generic" / f"{kind}.jsonl.xz", "rt") as file:
            lines = [json.loads(line) for line in file][:30]
        found += [
            {"text": line["text"], "domain": kind, "id": f"{kind}-{i:03}"}
            for i, line in enumerate(lines)
        ]
    found[7]["text"] = "Zwölf Boxkämpfer\r\njagen\n\n日本語\n"
    return found


@pytest.fixture(scope="module")
def expected(items, tmp_path_factory):
    path = write_lines(tmp_path_factory.mktemp("expected") / "all.jsonl", items)
    documents = read(str(path), identifier="id")
    assert [d.text for d in documents] == [item["text"] for item in items]
    return plain(documents)


@pytest.fixture(scope="module")
def prepared(items, tmp_path_factory):
    """The documents as a TFDS data set, made without TensorFlow."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = folder

        def _info(self):
            names = ["text", "domain", "id"]
            features = {name: tfds.features.Text() for name in names}
            features["meta"] = {"length": np.int64}
            features["topic"] = tfds.features.ClassLabel(names=["even", "odd"])
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, item in enumerate(items):
                length = {"length": len(item["text"])}
                yield i, item | {"meta": length, "topic": i % 2}

    builder = Tiny(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return folder


def test_gzip(items, expected, tmp_path):
    path = write_lines(tmp_path / "all.jsonl.gz", items)
    assert plain(read(str(path), identifier="id")) == expected


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()]
)
def test_parquet(items, expected, tmp_path, kind):
    table = pa.Table.from_pylist(items)
    table = table.set_column(0, "text", table["text"].cast(kind))
    domains = table["domain"].dictionary_encode()
    table = table.set_column(1, "domain", domains)
    table = table.append_column("unread", pa.array([{"x": 1}] * len(items)))
    path = tmp_path / "all.parquet"
    pq.write_table(table, path, row_group_size=17)
    assert plain(read(str(path), identifier="id")) == expected
    told = []
    list(read_documents(Shard.of(path), told.append))
    assert sum(told) == path.stat().st_size


def test_text(items, expected, tmp_path):
    for item in items:
        path = tmp_path / "corpus" / item["domain"] / "deep" / f"{item['id']}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item["text"].encode())
    for pattern in (f"{tmp_path}/corpus", f"text:{tmp_path}/corpus/**"):
        documents = read(pattern)
        assert documents[0].identifier == "austen/deep/austen-000.txt"
        assert (
            plain(
                d._replace(identifier=d.identifier.split("/")[-1][:-4])
                for d in documents
            )
            == expected
        )
    shards = expand([f"text:{tmp_path}/corpus"])
    assert [shard.domain for shard in shards] == list(KINDS)
    assert [len(shard.paths) for shard in shards] == [30, 30, 30]
    assert {d.domain for d in read(f"text:{tmp_path}/corpus/austen/deep")} == {"deep"}
    assert {d.domain for d in read(f"mine=text:{tmp_path}/corpus")} == {"mine"}


def test_tfds(expected, prepared, monkeypatch):
    pattern = f"tfds:tiny/train@{prepared}"
    assert plain(read(pattern, identifier="id")) == expected
    assert plain(read(f"tfds:tiny:1.0.0/train@{prepared}", identifier="id")) == expected
    monkeypatch.setattr("dga_jax.prepare.sources.tfds._SHARD_BYTES", 20_000)
    shards = expand([pattern], Fields(identifier="id"))
    assert len(shards) > 3
    assert len({shard.digest for shard in shards}) == len(shards)
    told = []
    documents = [d for shard in shards for d in read_documents(shard, told.append)]
    assert plain(documents) == expected
    assert sum(told) == sum(shard.num_bytes for shard in shards)
    assert {d.domain for d in read(pattern, domain="topic")} == {"even", "odd"}


def test_tfds_errors(prepared, tmp_path):
    where = shutil.copytree(prepared, tmp_path / "copy")
    pattern = f"tfds:tiny/train@{where}"
    folder = where / "tiny" / "1.0.0"
    (data,) = folder.glob("*array_record*")
    info = folder / "dataset_info.json"

    def said(pattern, **fields):
        with pytest.raises(UserError) as caught:
            read(pattern, **fields)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no split 'test', only 'train'" in said(f"tfds:tiny/test@{where}")
    assert "no data set 'tiny' of version 2.0.0" in said(f"tfds:tiny:2.0.0/t@{where}")
    assert "no feature 'body', only" in said(pattern, text="body")
    assert "train@" in said(pattern, text="meta.length")
    assert "example 0: field 'meta.length' is not" in said(pattern, text="meta.length")
    whole = data.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        data.write_bytes(damaged)
        assert "truncated or damaged after example 0" in said(pattern)
    data.unlink()
    assert "No such file or directory; prepare the data set again" in said(pattern)
    data.write_bytes(whole)
    text = info.read_text()
    info.write_text(text[:50])
    assert "metadata of 'tiny'" in said(pattern)
    info.write_text(text.replace("array_record", "tfrecord"))
    assert "was prepared as tfrecord" in said(pattern)


def test_tfds_needs_no_tensorflow(prepared):
    code = (
        "import os, sys\n"
        "from dga_jax.prepare.sources import expand, read_documents\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "assert 'pyarrow' not in sys.modules\n"
        f"os.environ['TFDS_DATA_DIR'] = {str(prepared)!r}\n"
        "(shard,) = expand(['tfds:tiny/train'])\n"
        "print(len(list(read_documents(shard))), 'tensorflow' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=SAMPLE.parent, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["90", "False"]


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_elsewhere(items, expected, tmp_path, protocol):
    root = f"{protocol}://{tmp_path}"
    filesystem, _ = fsspec.core.url_to_fs(root)
    write_lines(tmp_path / "local" / "all.jsonl.gz", items)
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "local" / "all.parquet")
    for item in items:
        path = tmp_path / "local" / "text" / item["domain"] / f"{item['id']}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item["text"].encode())
    filesystem.put(f"{tmp_path}/local/", f"{tmp_path}/there/", recursive=True)
    for name in ("there/all.jsonl.gz", "there/*.gz", "there/*.parquet"):
        shards = expand([f"{root}/{name}"], Fields(identifier="id"))
        told = []
        documents = [d for one in shards for d in read_documents(one, told.append)]
        assert plain(documents) == expected
        assert sum(told) == sum(shard.num_bytes for shard in shards) > 0
        (again,) = expand([shards[0].name])
        assert again.versions == shards[0].versions
    for name in ("there/text", "there/text/**/*.txt"):
        documents = read(f"{root}/{name}")
        assert documents[0].identifier == "austen/austen-000.txt"
        assert (
            plain(
                d._replace(identifier=d.identifier.split("/")[-1][:-4])
                for d in documents
            )
            == expected
        )


def test_pile(items, expected, tmp_path):
    names = {"austen": "Gutenberg (PG-19)", "dm_math": "DM Mathematics"}
    lines = [
        {
            "text": item["text"],
            "meta": {"pile_set_name": names.get(item["domain"], "Wikipedia (en)")},
        }
        for item in items
    ]
    write_lines(tmp_path / "00.jsonl", lines)
    documents = read(f"pile:{tmp_path}/*.jsonl")
    assert {d.domain for d in documents} == {*names.values(), "Wikipedia (en)"}
    assert {d.source for d in documents} == {""}
    assert [d.text for d in documents] == [item["text"] for item in items]


def test_dotted_fields(tmp_path):
    items = [{"a": {"b": "text", "c": {"d": "one"}}, "x.y": 7}]
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "f.parquet")
    write_lines(tmp_path / "f.jsonl", items)
    for name in ("f.parquet", "f.jsonl"):
        (document,) = read(
            f"{tmp_path}/{name}", text="a.b", domain="a.c.d", identifier="x.y"
        )
        assert document == ("text", "one", 4, "7", "")


def test_questions_from_parquet(tmp_path):
    row = {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1}
    row["subject"] = "abstract_algebra"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "mmlu.parquet")
    (document,) = read(f"{tmp_path}/mmlu.parquet", domain="supercategory")
    assert document.text == "1 + 1?\nA. 1\nB. 2\nAnswer: B"
    assert document.domain == "STEM"


def test_names_and_sources(tmp_path):
    for name in ("a/wiki.0.jsonl", "a/wiki.1.jsonl", "b/wiki.jsonl", "c/d.jsonl"):
        write_lines(tmp_path / name, [{"text": "t"}, {"text": "t", "domain": "own"}])
    documents = read(f"{tmp_path}/*/*.jsonl")
    named = {d.domain: set() for d in documents}
    for d in documents:
        named[d.domain].add(d.source)
    assert named == {
        "wiki": {f"{tmp_path}/a/wiki", f"{tmp_path}/b/wiki"},
        "d": {f"{tmp_path}/c/d"},
        "own": {""},
    }
    spec = f"mine={tmp_path}/b/*.jsonl"
    assert {(d.domain, d.source) for d in read(spec)} == {("mine", spec)}
    # A name is for a part of what another pattern matches.
    documents = read(f"{tmp_path}/*/*.jsonl", spec)
    assert {"wiki", "mine", "d", "own"} == {d.domain for d in documents}
    write_lines(tmp_path / "train-00001-of-00003.jsonl", [{"text": "t"}])
    assert [d.domain for d in read(f"{tmp_path}/train*")] == ["train"]


def test_a_shard_goes_to_workers_and_knows_its_documents(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "t"}])
    (shard,) = expand([str(path)])
    assert pickle.loads(pickle.dumps(shard)) == shard
    assert hash(shard.fields) == hash(Fields())
    assert expand([f"{tmp_path}/./*"])[0].digest == shard.digest
    assert expand([str(path)], Fields(max_document_bytes=9))[0].digest == shard.digest
    others = [
        expand([str(path)], Fields(text="body"))[0].digest,
        expand([f"other={path}"])[0].digest,
        expand([f"text:{path}"])[0].digest,
    ]
    write_lines(path, [{"text": "u"}, {"text": "t"}])
    others.append(expand([str(path)])[0].digest)
    assert len({shard.digest, *others}) == 5


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(texts, min_size=1))
def test_any_text_is_kept(tmp_path_factory, written):
    folder = tmp_path_factory.mktemp("any")
    items = [{"text": text} for text in ["a", *written]]
    write_lines(folder / "a.jsonl", items)
    pq.write_table(pa.Table.from_pylist(items), folder / "a.parquet")
    for i, item in enumerate(items):
        (folder / "text").mkdir(exist_ok=True)
        (folder / "text" / f"{i:05}.txt").write_bytes(item["text"].encode())
    expected = ["a", *written]
    assert [d.text for d in read(f"{folder}/a.jsonl")] == expected
    assert [d.text for d in read(f"{folder}/a.parquet")] == expected
    found = [d.text for d in read(f"{folder}/text")]
    assert found == [text.removeprefix("\ufeff") for text in expected]


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(1, 2**70))
def test_a_filter_tells_all_whole_numbers_apart(tmp_path_factory, one, apart):
    folder = tmp_path_factory.mktemp("whole")
    numbers = [one, *(one + sign * step for step in (1, apart) for sign in (-1, 1))]
    write_lines(folder / "a.jsonl", [{"text": str(n), "id": n} for n in numbers])
    names = ["a.jsonl"]
    if all(-(2**63) <= n < 2**63 for n in numbers):
        rows = pa.table({"text": list(map(str, numbers)), "id": pa.array(numbers)})
        pq.write_table(rows, folder / "a.parquet")
        names.append("a.parquet")
    for name, (op, kept) in itertools.product(names, COMPARED.items()):
        for written in {str(one), f"{one:_}", f" {one:+} "}:
            filters = (parse_filter(f"id{op}{written}"),)
            found = [d.text for d in read(f"{folder}/{name}", filters=filters)]
            assert found == [str(n) for n in numbers if kept(n, one)]


COMPARED = {"==": operator.eq, "!=": operator.ne, ">": operator.gt, "<=": operator.le}


@given(st.integers(-(10**400), 10**400), st.floats(allow_nan=False))
def test_filters_compare_whole_numbers_with_floats_exactly(whole, number):
    for op, kept in COMPARED.items():
        assert parse_filter(f"n{op}{whole}").passes(number) == kept(number, whole)
        assert parse_filter(f"n{op}{number!r}").passes(whole) == kept(whole, number)

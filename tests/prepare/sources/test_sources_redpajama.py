"""RedPajama-V2: the layout, the signals, and filters in general."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dga_jax.errors import UserError
from dga_jax.prepare.sources import Fields, expand, parse_filter, read_documents

TAGS = ("2023-06/0000/en_head", "2023-06/0001/en_head", "2022-49/0000/de_middle")


def signals_of(i: int) -> dict:
    return {
        "ccnet_perplexity": [[0, 9, 100.0 * i]],
        "rps_lines_ending_with_terminal_punctution_mark": [
            [0, 4, 1.0],
            [4, 9, float(i % 2)],
        ],
        "rps_doc_ut1_blacklist": [[0, 9, None if i % 2 else 3.0]],
        "rps_lines_num_words": [] if i == 3 else [[0, 9, 2]],
    }


def write(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(item) + "\n" for item in items)
    path.write_bytes(gzip.compress(data.encode()))


@pytest.fixture
def root(tmp_path):
    """Three files of six documents in the published layout."""
    for tag in TAGS:
        documents = [
            {
                "url": f"http://a.b/{i}",
                "source_domain": "a.b",
                "raw_content": f"{tag} text {i}",
                "language": tag[-9:-7],
            }
            for i in range(6)
        ]
        signals = [
            {
                "id": f"{tag}.json.gz/{i}",
                "metadata": {"url": f"http://a.b/{i}"},
                "quality_signals": signals_of(i),
            }
            for i in range(6)
        ]
        write(tmp_path / "rp" / "documents" / f"{tag}.json.gz", documents)
        name = f"{tag}.signals.json.gz"
        write(tmp_path / "rp" / "quality_signals" / name, signals)
    return tmp_path / "rp"


def read(*patterns, filters=(), **fields):
    filters = tuple(map(parse_filter, filters))
    shards = expand(patterns, Fields(filters=filters, **fields))
    return [document for shard in shards for document in read_documents(shard)]


@pytest.mark.parametrize("pattern", ["", "/**/*.json.gz", "/documents/*/*/*.json.gz"])
def test_layout(root, pattern):
    documents = read(f"redpajama:{root}{pattern}")
    assert len(documents) == 18
    assert {d.domain for d in documents} == {"en_head", "de_middle"}
    assert {d.source for d in documents} == {f"redpajama:{root}"}
    assert documents[-1].identifier == "2023-06/0001/en_head.json.gz/5"
    assert documents[-1].text == "2023-06/0001/en_head text 5"


def test_two_patterns_of_one_corpus_are_one_source(root):
    documents = read(
        *(f"redpajama:{root}/documents/{x}/**" for x in ("2023*", "2022*"))
    )
    assert len(documents) == 18
    assert len({d.source for d in documents}) == 1


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("ccnet_perplexity < 300", [0, 1, 2]),
        ("ccnet_perplexity<=300", [0, 1, 2, 3]),
        ("rps_lines_ending_with_terminal_punctution_mark >= .75", [1, 3, 5]),
        ("rps_lines_ending_with_terminal_punctution_mark==0.5", [0, 2, 4]),
        ("rps_doc_ut1_blacklist != 7", [0, 2, 4]),
        ("rps_lines_num_words>0", [0, 1, 2, 4, 5]),
    ],
)
@pytest.mark.parametrize("place", ["beside", "inline", "inline as JSON", "parquet"])
def test_filters(root, tmp_path, condition, kept, place):
    pattern = f"redpajama:{root}/documents/2022-49"
    if place != "beside":
        rows = [
            {
                "raw_content": f"text {i}",
                "doc_id": f"x/{i}",
                "quality_signals": json.dumps(signals_of(i))
                if place == "inline as JSON"
                else signals_of(i),
            }
            for i in range(6)
        ]
        pattern = f"redpajama:{tmp_path}/rows.{place.replace(' ', '_')}"
        if place == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), f"{tmp_path}/rows.parquet")
        else:
            pattern += ".json.gz"
            write(tmp_path / pattern.split("/")[-1], rows)
    documents = read(pattern, filters=[condition])
    assert [int(d.identifier.split("/")[-1]) for d in documents] == kept
    assert [int(d.text[-1]) for d in documents] == kept


def test_a_filter_on_no_signal(root):
    with pytest.raises(UserError, match="line 1: no quality signal 'url', only 'ccnet"):
        read(f"redpajama:{root}", filters=["url==http://a.b/4"])


def test_filters_of_any_source(tmp_path):
    items = [
        {"text": "a", "meta": {"lang": "en", "date": "2020-01-31"}, "n": 1, "ok": True},
        {"text": "b", "meta": {"lang": "de", "date": "2021-05-01"}, "n": 2.5},
        {"text": "c", "meta": {}, "n": None, "ok": False},
    ]
    path = tmp_path / "a.json.gz"
    write(path, items)
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "a.parquet")
    for name in ("a.json.gz", "a.parquet"):
        for condition, kept in [
            ("meta.lang==en", "a"),
            ("meta.lang != en", "b"),
            ("meta.date >= 2021-01-01", "b"),
            ("n>1", "b"),
            ("n <= 2.5", "ab"),
            ("ok==true", "a"),
        ]:
            found = read(f"{tmp_path}/{name}", filters=[condition])
            assert "".join(d.text for d in found) == kept, condition
        assert read(f"{tmp_path}/{name}", filters=["n>0", "meta.lang==fr"]) == []
        with pytest.raises(UserError, match=r"(no document has|no column).*'m'.* only"):
            read(f"{tmp_path}/{name}", filters=["m>0"])
        with pytest.raises(UserError, match=r"(line|row) 1: .*: meta.date>\"2020\""):
            read(f"{tmp_path}/{name}", filters=["meta.date>2020"])
        with pytest.raises(UserError, match=r"(line|row) 1: .*with a number"):
            read(f"{tmp_path}/{name}", filters=["n==one"])


@pytest.mark.parametrize("text", ["", "a", "a>", ">3", "a=3", "a=>3", "a>nan", "a ~ b"])
def test_no_filter(text):
    with pytest.raises(UserError, match="the filter"):
        parse_filter(text)


def test_filters_are_read_as_written():
    one = parse_filter(" a.b >= 1e3 ")
    assert (one.field, one.op, one.value) == ("a.b", ">=", 1000.0)
    assert parse_filter("a=='1'").value == "1"
    assert parse_filter("url==http://a=b>c").value == "http://a=b>c"
    assert str(parse_filter("a > 2")) == "a>2"


@pytest.mark.parametrize("damage", ["gone", "short", "long", "shifted", "unlike"])
def test_signals_of_other_documents(root, damage):
    path = root / "quality_signals" / f"{TAGS[0]}.signals.json.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    if damage == "gone":
        path.unlink()
    else:
        lines = {
            "short": lines[:4],
            "long": lines + lines[-1:],
            "shifted": lines[1:] + lines[:1],
            "unlike": [b"{}\n", *lines[1:]],
        }[damage]
        path.write_bytes(gzip.compress(b"".join(lines)))
    message = {
        "gone": r"no quality signals to filter by: cannot read .*signals\.json\.gz: No",
        "short": r"en_head.json.gz, line 5: .*ends before it",
        "long": "goes on after the last document",
        "shifted": r"signals.json.gz, line 1: signals of '2023-06/0000/.*/1', where",
        "unlike": r"line 1: signals of None, where those of '2023.*/0' should be",
    }[damage]
    with pytest.raises(UserError, match=message):
        read(f"redpajama:{root}", filters=["ccnet_perplexity>0"])
    assert len(read(f"redpajama:{root}")) == 18


def test_rows_without_signals(tmp_path):
    write(tmp_path / "a.json.gz", [{"raw_content": "a"}])
    assert [d.domain for d in read(f"redpajama:{tmp_path}")] == ["a"]
    with pytest.raises(UserError, match="line 1: no field 'quality_signals'"):
        read(f"redpajama:{tmp_path}", filters=["ccnet_perplexity>0"])
    write(tmp_path / "a.json.gz", [{"raw_content": "a", "quality_signals": "{"}])
    with pytest.raises(UserError, match="line 1: broken JSON in 'quality_signals'"):
        read(f"redpajama:{tmp_path}", filters=["ccnet_perplexity>0"])

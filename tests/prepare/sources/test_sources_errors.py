"""What a user is told when a source cannot be read: one line, with a place."""

import datetime
import gzip
import json
import os
import pathlib
import re

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dga_jax.errors import UserError
from dga_jax.prepare.sources import (
    Fields,
    Shard,
    expand,
    parse_filter,
    read_documents,
)

ROWS = [{"text": f"Call me Ishmael {i}", "n": i} for i in range(2000)]


def read(*patterns, **fields):
    shards = expand(map(str, patterns), Fields(**fields))
    return [document for shard in shards for document in read_documents(shard)]


def said(*patterns, **fields) -> str:
    with pytest.raises(UserError) as caught:
        read(*patterns, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def parquet(path, rows=ROWS, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_parquet(tmp_path):
    path = parquet(tmp_path / "a.parquet")
    assert "no column 'body', only 'text', 'n'; name those" in said(path, text="body")
    assert "no column 'kind', only 'text', 'n'" in said(path, domain="kind")
    assert "row 1: field 'n' is not a string but int" in said(path, text="n")
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:-3], b"PAR", b"text\n"):
        path.write_bytes(damaged)
        assert "a.parquet is not Parquet, or truncated or damaged" in said(path)
    middle = len(data) // 3
    path.write_bytes(data[:middle] + b"\xff" * 40 + data[middle + 40 :])
    assert re.search(r"a.parquet(, row \d+| is not Parquet, or .* row \d+)", said(path))
    rows = [*ROWS[:1233], {"text": None, "n": 0}, *ROWS]
    parquet(path, rows, row_group_size=500)
    assert "a.parquet, row 1234: field 'text' is not a string but null" in said(path)
    strings = pa.array([b"a"] * 1233 + [b"caf\xe9"], pa.binary())
    table = pa.table({"text": strings.view(pa.string())})
    pq.write_table(table, path)
    assert "a.parquet, row 1234: not UTF-8" in said(path)
    pq.write_table(pa.table({"text": strings}), path)
    assert "a.parquet, row 1234: field 'text' is not UTF-8" in said(path)
    parquet(path, [{"text": " "}])
    assert [d.num_bytes for d in read(path)] == [0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.date32(), 2_932_897),  # days, to the year 10000
        (pa.date64(), 86_400_000 * 2_932_897),
        (pa.timestamp("s"), 1 << 50),
        (pa.timestamp("us"), 1 << 60),
        (pa.timestamp("ms", "UTC"), -(1 << 60)),
        (pa.timestamp("s", "Mars/Phobos"), 0),
        (pa.duration("s"), 1 << 62),
        (pa.list_(pa.timestamp("ms")), [1 << 60]),
    ],
    ids=str,
)
def test_a_value_that_python_has_none_for_is_a_bad_row(tmp_path, kind, value):
    counts = pa.array([None, value, None, value])
    counts = counts.cast(pa.int32()) if kind == pa.date32() else counts
    table = pa.table({"text": list("abcd"), "at": counts.view(kind)})
    pq.write_table(table, path := tmp_path / "a.parquet")
    assert [d.text for d in read(path)] == list("abcd")  # the column is not read
    filters = (parse_filter("at!=x"),)
    message = said(path, filters=filters)
    assert "a.parquet, row 2: field 'at' has a value of type" in message
    assert "; mend it or leave the row out" in message
    bad = read(path, filters=filters, skip_bad=True)
    assert [one.number for one in bad] == [2, 4]
    assert {one.reason for one in bad} == {"unreadable value"}
    assert bad[0].said == message


def test_memory_is_bounded_in_parquet(tmp_path):
    """Of a single row group of 200 MB, a few rows at a time are held."""
    text = "All happy families are alike. " * 3400
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{i} {text}" for i in range(2000)]})
    pq.write_table(
        table,
        path,
        compression="none",
        use_dictionary=False,
        row_group_size=2000,
        write_batch_size=10,  # of rows, after which a page may end
    )
    del table
    before = pa.total_allocated_bytes()
    peak = 0
    for i, _ in enumerate(read_documents(Shard.of(path))):
        if i % 50 == 0:
            peak = max(peak, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 200e6
    assert peak < 40e6


def test_long_documents(tmp_path):
    limit = 1000
    long = "x" * 1001
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + json.dumps({"text": long}))
    message = said(tmp_path / "a.jsonl", max_document_bytes=limit)
    assert "a.jsonl, line 2: the document is 1,001 bytes long" in message
    assert "--max_document_mb" in message
    assert "split it" in message
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "' + "x" * 9000 + '"}')
    message = said(tmp_path / "b.jsonl", max_document_bytes=limit)
    assert "b.jsonl, line 2: the line is at least" in message
    parquet(tmp_path / "c.parquet", [{"text": "a"}, {"text": long}])
    message = said(tmp_path / "c.parquet", max_document_bytes=limit)
    assert "c.parquet, row 2: the document is" in message
    (tmp_path / "d.txt").write_text(long)
    message = said(tmp_path / "d.txt", max_document_bytes=limit)
    assert "d.txt: the text is at least" in message
    for name in ("a.jsonl", "c.parquet", "d.txt"):
        assert read(tmp_path / name, max_document_bytes=limit + 1)


def test_a_long_line_is_not_read_whole(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(b'{"text": "')
        for _ in range(300):
            file.write(b"x" * (1 << 20))
    told = []
    shard = Shard.of(path, Fields(max_document_bytes=1 << 20))
    with pytest.raises(UserError, match=r"line 1: the line is at least 8\.4 MB"):
        list(read_documents(shard, told.append))
    assert sum(told) <= path.stat().st_size


def test_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9")
    assert "b.txt, byte 6: not UTF-8" in said(f"{tmp_path}/*.txt")
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(os.urandom(10_000))[:5000])
    assert "c.txt.gz is truncated or damaged" in said(tmp_path)
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"\r\npacked"))
    assert [d.text for d in read(tmp_path)] == ["fine", "\r\npacked"]
    filters = (parse_filter("n>1"),)
    assert "have no fields to filter by" in said(tmp_path, filters=filters)


def test_directories(tmp_path):
    assert "holds no file" in said(tmp_path)
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "data" / "deep" / "b.jsonl.gz").write_bytes(
        gzip.compress(b'{"text": "b"}\n')
    )
    parquet(tmp_path / "data" / "deep" / "c.parquet", [{"text": "c"}])
    for left in ("_SUCCESS", ".DS_Store", ".git/config"):
        path = tmp_path / "data" / left
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert [d.text for d in read(tmp_path / "data")] == ["a", "b", "c"]
    for name in ("README.md", "LICENSE", "dataset_info.json"):  # about the data
        (tmp_path / "data" / name).write_text("About")
    passed_over = []
    assert len(expand([str(tmp_path / "data")], passed_over=passed_over)) == 3
    assert {os.path.basename(path) for path in passed_over} == {
        "_SUCCESS",
        ".DS_Store",
        "README.md",
        "LICENSE",
        "dataset_info.json",
    }
    (tmp_path / "data" / "notes.md").write_text("Notes")
    message = said(tmp_path / "data")
    assert "holds files of several kinds, such as" in message
    assert "notes.md; write 'text:" in message
    (tmp_path / "data" / "notes.md").rename(tmp_path / "data" / "x.csv")
    assert "x.csv; write 'text:" in said(tmp_path / "data")


def test_directories_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.jsonl").write_text('{"text": "a"}\n')
    scan = os.scandir

    def scandir(path):
        if "shut" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in ("", "/*/*.jsonl", "/**/*.jsonl", "/{shut,open}/*"):
        message = said(f"{tmp_path}{pattern}")
        assert f"cannot read {tmp_path}/shut: Permission denied" in message
    assert read(f"{tmp_path}/open/*.jsonl")


def test_names(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n')
    here = str(tmp_path)
    message = said(f"x={here}/a.jsonl", f"x={here}/b.jsonl")
    assert "have one name; give each its own" in message
    message = said(f"x={here}/a.jsonl", f"y={here}/*.jsonl")
    assert f"a.jsonl is matched by both x={here}/a.jsonl" in message
    assert read(f"x={here}/a.jsonl,x={here}/a.jsonl")
    message = said(f"{here}/a.jsonl", f"text:{here}/a.jsonl")
    assert "JSON lines) and text:" in message
    assert "is not [NAME=]" in said(f"x=,{here}/a.jsonl")
    assert "is not [NAME=]" in said(f"={here}/a.jsonl")
    (tmp_path / "lang=en").mkdir()
    (tmp_path / "lang=en" / "a.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    assert "of a path, write ./lang=en/*.jsonl" in said("lang=en/*.jsonl")
    assert [d.domain for d in read("./lang=en/*.jsonl")] == ["a"]


def test_paths_that_cannot_be_read(tmp_path):
    assert "no file matches" in said(tmp_path / "a.jsonl")
    assert "no file matches 'pil:a.jsonl'" in said("pil:a.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "pipe.jsonl: it is no regular file" in said(tmp_path / "pipe.jsonl")


def test_a_directory_with_a_link_to_itself(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b").symlink_to(".")
    assert [d.text for d in read(tmp_path)] == ["a"]


def test_names_that_no_domain_can_have(tmp_path):
    path = tmp_path / "a.jsonl"
    for name in ("", " ", "a\nb", "\ud800", "\x1b[31m", "x" * 201, 3):
        path.write_text(json.dumps({"text": "a", "domain": name}))
        assert "line 1: field 'domain': a domain must have a name" in said(path)
    path.write_text(json.dumps({"text": "a", "domain": "x" * 200}))
    assert read(path)
    assert "must have a name" in said(f"{'x' * 201}={path}")
    for name in (b"\xe9.jsonl", b"a\tb.jsonl"):
        path.rename(odd := os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        assert "rename it, or give it a name with NAME=PATTERN" in said(odd)
        assert [d.domain for d in read(f"x={odd}")] == ["x"]
        path = pathlib.Path(odd)


def test_null_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": null}')
    for flag in ("domain", "identifier"):
        assert "line 1: field 'n' is null" in said(path, **{flag: "n"})


def test_what_filters_cannot_compare(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": 1, "s": "1", "o": {}, "b": true}')
    for condition, message in [
        ("o>=1", "is of type dict, which cannot be compared"),
        ("s>=1234567", ': s>="1234567"'),
        ("n>=x", "field 'n' is 1, which n>=\"x\" cannot"),
    ]:
        assert message in said(path, filters=(parse_filter(condition),))
    for condition in ("b==True", "b==1", "n<=1e400"):
        assert read(path, filters=(parse_filter(condition),))
    parquet(tmp_path / "a.parquet", [{"text": "a", "d": datetime.date(2020, 1, 31)}])
    assert read(tmp_path / "a.parquet", filters=(parse_filter("d>='2020-01'"),))


def test_tfds(tmp_path):
    assert "is not tfds:NAME[/CONFIG]" in said("tfds:wiki")
    message = said(f"tfds:wiki/train@{tmp_path}")
    assert f"no data set 'wiki' in {tmp_path}" in message
    assert "file_format='array_record'" in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("bucket/a"), "no such file; check the path"),
        (FileNotFoundError("No such key: token/x/a"), "no such file"),
        (PermissionError("Forbidden"), "permission denied; ask for access"),
        (TimeoutError(), "cannot be reached; check network"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached"),
        (RuntimeError("Unable to locate credentials"), "no valid credentials; log in"),
        (RuntimeError("Anonymous caller does not have access"), "no valid credentials"),
        (RuntimeError("An error occurred (403): Access Denied"), "permission denied"),
        (RuntimeError("one\n  two"), ": RuntimeError: one two; check the path"),
    ],
)
@pytest.mark.parametrize("when", ["info", "find", "open", "read"])
def test_elsewhere(monkeypatch, error, message, when):
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/token/x/a", b'{"text": "a"}\n')

    def fail(*arguments, **options):
        raise error

    if when == "read":
        monkeypatch.setattr(
            "fsspec.implementations.memory.MemoryFile.readinto", fail, raising=False
        )
    else:
        monkeypatch.setattr(filesystem, when, fail)
    assert message in said(
        "memory://token/x/*" if when == "find" else "memory://token/x/a"
    )


def test_protocols(monkeypatch):
    assert "foo:// is not known; what is: gs://" in said("foo://bucket/*.jsonl")

    def fail(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    assert said("s3://b/*") == "s3://b/*: s3:// needs a package: pip install s3fs"
    assert "pip install gcsfs" in said("mine=text:gs://b/*")
    assert "no file matches" in said("/nowhere/*")


def test_nothing_elsewhere():
    fsspec.filesystem("memory").pipe("/y/a.jsonl", b"")
    assert "no file matches 'memory://y/*.gz'" in said("memory://y/*.gz")
    assert "no such file" in said("memory://y/b.jsonl")
    assert read("memory://y/a.jsonl") == []
    fsspec.filesystem("memory").pipe("/y/a.jsonl.gz", gzip.compress(b"{}" * 99)[:20])
    assert "a.jsonl.gz is truncated or damaged" in said("memory://y/a.jsonl.gz")
    fsspec.filesystem("memory").pipe("/y/a.parquet", b"PAR1")
    assert "a.parquet is not Parquet" in said("memory://y/a.parquet")

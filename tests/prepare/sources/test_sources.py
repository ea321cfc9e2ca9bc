import bz2
import gzip
import json
import lzma
import pathlib

import pytest
import zstandard

from dga_jax.errors import UserError
from dga_jax.prepare.sources import Shard, expand, read_documents

COMPRESS = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
TEXTS = ["Call me Ishmael.", "Zwölf Boxkämpfer", "日本語", "two\nlines", ""]


def lines(*items) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_reads_every_compression(tmp_path, suffix):
    path = tmp_path / f"moby.v2.jsonl{suffix}"
    data = lines(*[{"text": text} for text in TEXTS])
    path.write_bytes(COMPRESS[suffix](data))
    documents = list(read_documents(Shard.of(path)))
    assert [d.text for d in documents] == TEXTS
    assert {d.domain for d in documents} == {"moby"}
    assert [d.num_bytes for d in documents] == [len(t.encode()) for t in TEXTS]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_reads_files_that_were_concatenated(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    parts = [lines({"text": text}) for text in ("one", "two", "three")]
    path.write_bytes(b"".join(map(COMPRESS[suffix], parts)))
    assert [d.text for d in read_documents(Shard.of(path))] == ["one", "two", "three"]


def test_reports_the_bytes_of_the_file(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*[{"text": "x" * i} for i in range(2000)])))
    counts = []
    list(read_documents(Shard.of(path), counts.append))
    assert sum(counts) == path.stat().st_size


def test_domain_field_comes_before_the_file_name(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(
        lines({"text": "a", "domain": "b/c"}, {"text": "a", "domain": None})
    )
    assert [d.domain for d in read_documents(Shard.of(path))] == ["b/c", "file"]


def test_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n{"text": " \\n"}')
    assert [(d.text, d.num_bytes) for d in read_documents(Shard.of(path))] == [
        ("a", 1),
        (" \n", 0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'{"text": "a"', "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b'["text"]', "not a JSON object"),
        (b'{"content": "a"}', "no field 'text', only 'content'"),
        (b'{"text": 7}', "not a string but int"),
        (b'{"text": "\\ud800"}', "not valid Unicode"),
        (b'{"text": "a", "domain": 3}', "must have a name"),
        (b'{"text": "a", "domain": ""}', "must have a name"),
        (b'{"text": "a", "domain": "a\\nb"}', "must have a name"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines({"text": "fine"}) * 1233 + line + b"\n")
    with pytest.raises(UserError, match=rf"bad\.jsonl, line 1234: .*{message}"):
        list(read_documents(Shard.of(path)))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_damaged_compression_is_named(tmp_path, suffix, damage):
    data = lines(*[{"text": f"{i * i}"} for i in range(20_000)])
    packed = COMPRESS[suffix](data)
    packed = {
        "cut": packed[: len(packed) // 2],
        "altered": packed[:2000] + b"\xff" * 50 + packed[2050:],
    }[damage]
    path = tmp_path / f"bad.jsonl{suffix}"
    path.write_bytes(packed)
    with pytest.raises(UserError, match=r"bad\.jsonl.*(truncated or damaged|line \d+)"):
        list(read_documents(Shard.of(path)))


def test_unreadable(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*gone\.jsonl: No such file"):
        list(read_documents(Shard.of(tmp_path / "gone.jsonl")))


def paths(*patterns):
    return [pathlib.Path(*shard.paths) for shard in expand(patterns)]


def test_expand(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.txt", "x,y.jsonl", "deep/er/d.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    here = str(tmp_path)
    names = ["a.jsonl", "b.jsonl", "x,y.jsonl"]
    assert paths(f"{here}/*.jsonl") == [tmp_path / name for name in names]
    both = paths(f"{here}/c.*,{here}/*a.jsonl", f"{here}/c.txt")
    assert both == [tmp_path / "a.jsonl", tmp_path / "c.txt"]
    assert paths(f"{here}/x,y.jsonl") == [tmp_path / "x,y.jsonl"]
    assert tmp_path / "deep/er/d.jsonl" in paths(f"{here}/**/*.jsonl")
    with pytest.raises(UserError, match=r"no file matches .*\*\.gz"):
        expand([f"{here}/*.jsonl", f"{here}/*.gz"])
    with pytest.raises(UserError, match="holds files of several kinds"):
        expand([here])
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"link\.jsonl: the link leads nowhere"):
        expand([f"{here}/*.jsonl"])

"""What a file is, its content says; its name may say anything."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dga_jax.errors import UserError
from dga_jax.prepare.sources import Fields, expand, read_documents

TEXTS = ["Call me Ishmael.", "日本語", "x" * 3000]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
HALVES = LINES[:20], LINES[20:]


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), data)
    return data.getvalue()


def skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zstandard.compress(data)


PACK = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "zstd after a frame to be skipped": skippable,
}
NAMES = ["a", "a.jsonl", "a.json.gz", "a.GZ", "a.jsonl.xz", "a.bz2", "a.zst", "a.zip"]
NAMES += ["a.parquet", "a.JSONL.Zst"]


def read(path, data, **fields):
    if str(path).startswith("memory://"):
        fsspec.filesystem("memory").pipe(str(path), data)
    else:
        path.write_bytes(data)
    (shard,) = expand([str(path)], Fields(**fields))
    told = []
    documents = list(read_documents(shard, told.append))
    assert sum(told) >= shard.num_bytes == len(data)
    return [document.text for document in documents]


def said(path, data, **fields):
    with pytest.raises(UserError) as caught:
        read(path, data, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_lines_under_any_name(tmp_path, name, pack):
    assert read(tmp_path / name, pack(LINES)) == TEXTS
    assert read(f"memory://content/{name}", pack(LINES)) == TEXTS
    several = pack(HALVES[0]) + pack(b"") + pack(HALVES[1])
    assert read(tmp_path / name, several) == TEXTS


@pytest.mark.parametrize("name", NAMES)
def test_parquet_under_any_name(tmp_path, name):
    assert read(tmp_path / name, parquet()) == TEXTS
    assert read(f"memory://content/{name}", parquet()) == TEXTS


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_texts_and_nothing(tmp_path, pack):
    assert read(tmp_path / "a.txt", pack(b"moby")) == ["moby"]
    assert read(tmp_path / "a.txt.bz2", pack(b"moby")) == ["moby"]
    for name in NAMES:
        assert read(tmp_path / name, pack(b"")) == []
        assert read(tmp_path / name, pack(b"\n \n")) == []
        assert read(tmp_path / name, b"") == []


def archive(kind) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as file:
            file.writestr("a.jsonl", LINES)
    else:
        with tarfile.open(fileobj=data, mode="w") as file:
            file.addfile(tarfile.TarInfo("a.jsonl"), io.BytesIO())
    return data.getvalue()


def arrow(new) -> bytes:
    table, data = pa.table({"text": TEXTS}), io.BytesIO()
    with new(data, table.schema) as writer:
        writer.write_table(table)
    return data.getvalue()


FOREIGN = {
    "a zip archive": archive("zip"),
    "a tar archive": archive("tar"),
    "a tar archive, in gzip": gzip.compress(archive("tar")),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "a RAR archive": b"Rar!\x1a\x07\x01\x00",
    "compressed with LZ4": b"\x04\x22\x4d\x18\x64\x40",
    "compressed with Snappy": b"\xff\x06\x00\x00sNaPpY",
    "an Arrow file": arrow(pa.ipc.new_file),
    "an Arrow file ": arrow(pa.ipc.new_stream),
    "an Avro file": b"Obj\x01\x04",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "a PDF document": b"%PDF-1.7\n",
    "an image": b"\x89PNG\r\n\x1a\n",
    "UTF-16": LINES.decode().encode("utf-16"),
    "UTF-32": LINES.decode().encode("utf-32"),
    "the pointer that Git LFS left": b"version https://git-lfs.github.com/spec/v1\n",
    "compressed twice, by gzip": lzma.compress(gzip.compress(LINES)),
    "Parquet inside gzip": gzip.compress(parquet()),
    "a binary file of an unknown kind": bytes(range(256)),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_read_is_named(tmp_path, what):
    for name in ("a.jsonl", "a.gz", "a.parquet"):
        if what == "a binary file of an unknown kind" and name == "a.parquet":
            continue
        message = said(tmp_path / name, FOREIGN[what])
        assert f"{tmp_path / name} " in message
        assert what.strip() in message
        assert ";" in message  # what to do
        # A file is not one document: nothing of it is skipped in silence.
        assert said(tmp_path / name, FOREIGN[what], skip_bad=True) == message
    if what != "a binary file of an unknown kind":
        assert what.strip() in said(tmp_path / "a.txt", FOREIGN[what])
        assert read(tmp_path / "a.txt", FOREIGN[what], skip_bad=True) == [""]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"text": "a"},\n{"text": "b"}]', "line 1: it is a JSON array"),
        (b'{\n  "text": "a"\n}', "line 1: it is JSON over several lines"),
        (b"<!DOCTYPE html>\n<html>", "line 1: it is an HTML page"),
    ],
)
def test_what_is_no_lines_is_named(tmp_path, data, message):
    assert message in said(tmp_path / "a.json", data)


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_a_cut_line_is_a_document_and_a_cut_file_is_not(tmp_path, pack):
    """Of a compressed file nobody knows what is lost; it is never skipped."""
    path = tmp_path / "a.jsonl"
    assert read(path, pack(LINES[:-40]), skip_bad=True) == [*TEXTS[:2], ""]
    if pack is not bytes:
        data = pack(LINES * 50)
        message = said(path, data[: len(data) // 2], skip_bad=True)
        assert "a.jsonl is truncated or damaged" in message


SIGNED = {kind: PACK[kind] for kind in ("gzip", "xz", "bzip2", "zstd")}
SIGN = 2  # bytes that the streams of each begin with


@pytest.mark.parametrize("earlier", [1, 3])
@pytest.mark.parametrize("pack", SIGNED.values(), ids=SIGNED)
def test_a_stream_that_does_not_begin_as_one_is_damage(tmp_path, pack, earlier):
    whole, last = pack(LINES) * earlier, pack(LINES)
    assert read(tmp_path / "a.jsonl", whole + last) == TEXTS * (earlier + 1)
    for bit in range(8 * SIGN):
        damaged = bytearray(last)
        damaged[bit // 8] ^= 1 << bit % 8
        refuses(tmp_path, whole + damaged)


@pytest.mark.parametrize("end", [b"x", b"{}\n", b"garbage " * 20_000, LINES])
@pytest.mark.parametrize("pack", list(PACK.values())[1:], ids=list(PACK)[1:])
def test_what_follows_the_streams_is_damage(tmp_path, pack, end):
    refuses(tmp_path, pack(LINES) + end)
    refuses(tmp_path, pack(LINES) * 2 + end)


@pytest.mark.parametrize("pack", list(PACK.values())[1:], ids=list(PACK)[1:])
def test_a_stream_that_is_cut_anywhere_is_damage(tmp_path, pack):
    whole, last = pack(LINES), pack(b"")
    for cut in range(1, len(last)):
        if (pack, cut) != (skippable, 12):  # where the frame to be skipped ends
            refuses(tmp_path, whole + last[:cut])


def test_padding_of_xz_is_passed_over(tmp_path):
    one, other = map(lzma.compress, HALVES)
    for count in (4, 8, 1 << 18):
        padding = bytes(count)
        data = one + padding + other + padding
        assert read(tmp_path / "a.jsonl", data) == TEXTS
        refuses(tmp_path, one + padding + b"x")
        refuses(tmp_path, data[:-1])
        refuses(tmp_path, one + padding[:-1] + other)
        refuses(tmp_path, one + padding + other[:-1])


def refuses(tmp_path, data):
    """Whatever is to be skipped, for nobody knows what is lost."""
    for skip_bad in (False, True):
        message = said(tmp_path / "a.jsonl", data, skip_bad=skip_bad)
        assert "a.jsonl is truncated or damaged" in message
    assert "a.txt is truncated or damaged" in said(tmp_path / "a.txt", data)


def test_texts_that_begin_like_files_are_texts(tmp_path):
    for text in ("ORCAs are whales", "PARENTS", "PAR1", "BZh9 is no bzip2", "GIF89a"):
        assert read(tmp_path / "a.txt", text.encode()) == [text]


@pytest.mark.parametrize("value", [b'{"a": {"b": null}}', b'{"a": null}'])
def test_a_null_in_a_nested_field_is_called_null(tmp_path, value):
    path = tmp_path / "a.jsonl"
    fields = {"text": "a.b"}
    assert "line 1: field 'a.b' is not a string but null" in said(path, value, **fields)
    assert read(path, value, skip_bad=True, **fields) == [""]
    line = value[:-1] + b', "text": "t"}'
    for flag in ("domain", "identifier"):
        assert "line 1: field 'a.b' is null" in said(path, line, **{flag: "a.b"})
    data, item = io.BytesIO(), json.loads(value)
    table = pa.Table.from_pylist([{"a": {"b": "t"}}, item])
    pq.write_table(table, data)
    message = said(tmp_path / "a.parquet", data.getvalue(), **fields)
    assert "row 2: field 'a.b' is not a string but null" in message

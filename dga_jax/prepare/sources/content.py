"""What a file is, told by its first bytes: its name may say anything."""

import enum
import re
from typing import NamedTuple

HEAD = 512  # bytes that are looked at; a tar says what it is from byte 257 on


class Packing(enum.StrEnum):
    """How a file is compressed, of what can be read."""

    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "Zstandard"
    BZIP2 = "bzip2"


class Foreign(NamedTuple):
    """A kind of file that is not read.

    Attributes:
      what: it is, with an article.
      remedy: what to do.
    """

    what: str
    remedy: str


_PACKED = [
    (re.compile(rb"\x1f\x8b\x08"), Packing.GZIP),
    (re.compile(rb"\xfd7zXZ\x00|\x5d\x00\x00.{2}[\x00-\x7f\xff]", re.S), Packing.XZ),
    # The second is a frame to be skipped, which may come before the data.
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.S), Packing.ZSTD),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)", re.S), Packing.BZIP2),
]
_UNPACK = "unpack it, and give what is in it"
_REPACK = "compress it with gzip, xz, zstd or bzip2, or not at all"
_TEXT = "extract its text to JSON lines or text files"
_CONVERT = "convert it to Parquet or JSON lines"
_UTF8 = "convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"
_FOREIGN: list[tuple[bytes, str, str]] = [
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (rb"(?=.*\x00).{257}ustar", "a tar archive", _UNPACK),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "compressed with LZ4", _REPACK),
    (rb"\xff\x06\x00\x00sNaPpY", "compressed with Snappy", _REPACK),
    (rb"\x89LZO\x00", "compressed with lzop", _REPACK),
    (rb"\x1f[\x9d\xa0]", "compressed with compress (.Z)", _REPACK),
    (rb"\x78[\x9c\xda]", "a bare zlib stream", _REPACK),
    (rb"ARROW1\x00\x00|\xff{4}.{2}\x00\x00", "an Arrow file", _CONVERT),
    (rb"PARE(?=.*\x00)", "encrypted Parquet", "decrypt it"),
    (rb"Obj\x01", "an Avro file", _CONVERT),
    (rb"ORC(?=.*\x00)", "an ORC file", _CONVERT),
    (rb"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (rb"SQLite format 3\x00", "an SQLite database", _CONVERT),
    (rb"\x93NUMPY", "a NumPy array", _CONVERT),
    (rb"\x80[\x02-\x05]", "a Python pickle", _CONVERT),
    (rb"%PDF-", "a PDF document", _TEXT),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _TEXT),
    (rb"\{\\rtf", "an RTF document", _TEXT),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a(?=.*\x00)", "an image", "leave it out"),
    (rb"\x7fELF", "a program", "leave it out"),
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "the pointer that Git LFS left for a file",
        "get the file itself: git lfs pull",
    ),
    # Of UTF-32 the mark begins as that of UTF-16 does.
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "UTF-32", _UTF8.replace("16", "32")),
    (rb"\xff\xfe|\xfe\xff", "UTF-16", _UTF8),
]
_COMPILED = [
    (re.compile(sign, re.S), Foreign(what, remedy)) for sign, what, remedy in _FOREIGN
]
# Of these no first byte tells.
_SUFFIXES = {
    ".br": "compressed with Brotli",
    ".snappy": "compressed with Snappy",
    ".lzo": "compressed with LZO",
    ".deflate": "a bare zlib stream",
}


def packing(head: bytes) -> Packing | None:
    """How a file that begins so is compressed, if it is."""
    return next((kind for sign, kind in _PACKED if sign.match(head)), None)


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins so is Parquet."""
    return bool(re.match(rb"PAR1[\x00-\x1f]", head))


def foreign(head: bytes) -> Foreign | None:
    """What a file that begins so is, if it is known and cannot be read."""
    return next((kind for sign, kind in _COMPILED if sign.match(head)), None)


def unknown(head: bytes, path: str) -> Foreign | None:
    """What a file that begins so is, if it can hold no JSON lines and is not known."""
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[", b""):
        return None
    for suffix, what in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return Foreign(what, _REPACK)
    if b"\x00" in head:
        return Foreign("a binary file of an unknown kind", "leave it out")
    return None


def may_be_lines(head: bytes) -> bool:
    """Whether reading it as JSON lines will read, or name, a file that begins so."""
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"")
    return bool(begins or packing(head) or foreign(head))


def not_lines(head: bytes) -> str | None:
    """What a text that begins so is rather than JSON lines, and a remedy, in words."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[":
        return "it is a JSON array, not JSON lines; write a line for each element"
    if re.match(rb"<!doctype html|<html", text, re.I):
        return "it is an HTML page, such as a server's answer; get the file again"
    if text[:1] == b"<":
        return "it is XML or HTML, not JSON lines; convert it"
    if re.match(rb"\{\s*\n", text):
        return "it is JSON over several lines; write each object on one line"
    return None

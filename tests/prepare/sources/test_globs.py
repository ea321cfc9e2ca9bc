"""A pattern means the same wherever the files are."""

import os

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.errors import UserError
from dga_jax.prepare.sources import expand, files, globs

NAMES = ["a", "b", "ab", "a.jsonl", "b.jsonl", "a1", "_a", ".a", "[a]", "A.JSONL"]
NAMES += ["_SUCCESS", ".a.jsonl.crc", "dataset_info.json", "{a}"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
PARTS = ["*", "**", "?", "a*", "*.jsonl", "[ab]*", "[!a]", "_*", ".*", "a", "b", "_a"]
PARTS += ["{a,b}", "{a*,b.jsonl}", "a{0..2}", "[a]", "{a}", "[", "*[a]", "a,b"]
parts = st.sampled_from(PARTS)
patterns = st.lists(parts, min_size=1, max_size=3).map("/".join)


def made(folder, names) -> list[str]:
    """Those of some files that can be together: none is in the place of a folder."""
    written = []
    for name in sorted(set(names)):
        path = folder / name
        if not any((folder / one).is_file() for one in _above(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text("{}")
                written.append(name)
    return written


def _above(name):
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def found(root, pattern):
    """Paths below the root, as they come; or that nothing is found."""
    try:
        result = files.find(f"{root}/{pattern}")
    except UserError as error:
        assert "no file" in str(error) or "no such file" in str(error)  # noqa: PT017
        return None
    start = files.find(root).root
    assert [file.path for file in result.files] == sorted(f.path for f in result.files)
    return (
        [file.path.removeprefix(f"{start}/") for file in result.files],
        sorted(path.removeprefix(f"{start}/") for path in result.passed_over),
        result.is_directory,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(paths, min_size=1, max_size=8), patterns)
def test_here_and_elsewhere(tmp_path_factory, names, pattern):
    folder = tmp_path_factory.mktemp("tree")
    (folder / "keep").write_text("{}")
    memory = fsspec.filesystem("memory")
    for name in ["keep", *made(folder, names)]:
        memory.pipe(f"{folder}/{name}", b"{}")
    here = found(str(folder), pattern)
    assert found(f"file://{folder}", pattern) == here
    assert found(f"memory://{folder}", pattern) == here
    if here and globs.is_wild(pattern) and not (folder / pattern).exists():
        # What nobody named is not there.
        for path in here[0]:
            assert not os.path.basename(path).startswith((".", "_")) or any(
                part.startswith(os.path.basename(path)[0])
                for part in pattern.replace("{", "/").replace(",", "/").split("/")
            )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("d/*.jsonl", ["d/c.jsonl"]),
        ("**", ["a.jsonl", "b.jsonl", "d/c.jsonl", "d/e/f.jsonl", "x,y.txt"]),
        ("**/*.jsonl", ["a.jsonl", "b.jsonl", "d/c.jsonl", "d/e/f.jsonl"]),
        ("d/**/*.jsonl", ["d/c.jsonl", "d/e/f.jsonl"]),
        ("{b,d/c}.jsonl", ["b.jsonl", "d/c.jsonl"]),
        ("[!b].jsonl", ["a.jsonl"]),
        ("?.jsonl", ["a.jsonl", "b.jsonl"]),
        ("_*", ["_SUCCESS", "_x.jsonl"]),
        (".hidden/*", [".hidden/g.jsonl"]),
        ("x,y.txt", ["x,y.txt"]),
        ("{x,y}.txt", None),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_what_patterns_match(tmp_path, scheme, pattern, expected):
    names = ["a.jsonl", "b.jsonl", "d/c.jsonl", "d/e/f.jsonl", "x,y.txt", "_SUCCESS"]
    names += ["_x.jsonl", ".hidden/g.jsonl", "d/.c.jsonl.crc", "dataset_info.json"]
    for name in made(tmp_path, names):
        fsspec.filesystem("memory").pipe(f"{tmp_path}/{name}", b"{}")
    result = found(f"{scheme}{tmp_path}", pattern)
    assert (result and result[0]) == expected


def test_names_and_kinds_go_before_any_pattern(tmp_path):
    made(tmp_path, ["d/a.jsonl", "d/b.jsonl", "d/_c.jsonl", "e/a.jsonl"])
    counts = [
        len(expand([f"{prefix}{scheme}{tmp_path}/{pattern}"]))
        for prefix in ("", "x=", "pile:", "x=pile:")
        for scheme in ("", "file://")
        for pattern in ("d/*.jsonl", "d", "{d,e}/[ab].jsonl", "?/*")
    ]
    assert counts == [2, 2, 3, 3] * 8


def test_links_are_followed_here_and_by_url(tmp_path):
    made(tmp_path, ["d/a.jsonl", "d/e/b.jsonl"])
    (tmp_path / "d" / "e" / "up").symlink_to("../..")
    (tmp_path / "link").symlink_to("d")
    for pattern in ("**/*.jsonl", "link/*.jsonl", "*/e/*.jsonl"):
        here = found(str(tmp_path), pattern)
        assert here[0]
        assert found(f"file://{tmp_path}", pattern) == here
    assert len(expand([f"{tmp_path}/**/*.jsonl"])) == 2  # each file once


def test_in_a_url_of_http_a_question_mark_is_none():
    assert not globs.is_wild("https://host/a.jsonl?download=true")
    assert globs.is_wild("https://host/*.jsonl?download=true")
    assert globs.is_wild("gs://bucket/?.jsonl")

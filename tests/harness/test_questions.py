"""Files of questions: read as they are, or refused on one line."""

import gzip
import json
import lzma

import pytest

from dga_jax.errors import UserError
from dga_jax.harness.questions import read_questions

GOOD = {
    "question": " 1 + 1? ",
    "choices": ["1", "2", "3", "4"],
    "answer": 1,
    "subject": "Abstract algebra",
}


def written(tmp_path, *lines, name="q.jsonl"):
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    pack = {".gz": gzip.compress, ".xz": lzma.compress}
    path = tmp_path / name
    path.write_bytes(pack.get(path.suffix, bytes)(text.encode()))
    return str(path)


@pytest.mark.parametrize("name", ["q.jsonl", "q.jsonl.gz", "q.jsonl.xz"])
def test_by_subject_in_the_files_order(tmp_path, name):
    other = GOOD | {"question": "2?", "subject": "abstract_algebra"}
    path = written(tmp_path, GOOD, "", other, GOOD | {"subject": "law"}, name=name)
    found = read_questions("--data", path)
    assert {k: [q["question"] for q in v] for k, v in found.items()} == {
        "abstract_algebra": ["1 + 1?", "2?"],
        "law": ["1 + 1?"],
    }
    assert found["law"][0]["choices"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "1 +', "line 2: is not JSON"),
        ("[1]", "line 2: is no JSON object"),
        ({k: v for k, v in GOOD.items() if k != "subject"}, "has no field 'subject'"),
        ({k: v for k, v in GOOD.items() if k != "answer"}, "has no field 'answer'"),
        (GOOD | {"answer": "B"}, "field 'answer' must be the index of one of 4 choi"),
        (GOOD | {"answer": 4}, "field 'answer' must be the index of one of 4 choices"),
        (GOOD | {"choices": "1234"}, "field 'choices' is not a list"),
        (GOOD | {"choices": ["1"], "answer": 0}, "'choices' must be two or more texts"),
        (GOOD | {"choices": ["1", " "]}, "field 'choices' must be two or more texts"),
        (GOOD | {"question": None}, "field 'question' is not a string"),
        (GOOD | {"subject": 3}, "field 'subject' is not a name"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    path = written(tmp_path, GOOD, line)
    with pytest.raises(UserError) as error:
        read_questions("--data", path)
    assert str(error.value).startswith(f"--data={path}: line 2: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_of_several_streams_none_is_lost(tmp_path, pack):
    path = tmp_path / ("q.gz" if pack is gzip.compress else "q.xz")
    stream = pack(json.dumps(GOOD).encode() + b"\n")
    path.write_bytes(stream * 3)
    assert len(read_questions("--data", str(path))["abstract_algebra"]) == 3
    for end in (b"garbage", b"\1" + stream[1:], stream[:-1]):
        path.write_bytes(stream * 2 + end)
        with pytest.raises(UserError, match=r"damaged|gzip"):
            read_questions("--data", str(path))


def test_files_that_hold_none(tmp_path):
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:40])
    for path, said in (
        (written(tmp_path, ""), "has no question"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "none"), "No such file"),
        (str(cut), "is damaged, or no text"),
    ):
        with pytest.raises(UserError, match=said):
            read_questions("--data", path)

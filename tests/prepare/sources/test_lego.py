"""Chains of variables, against what a person does who reads the text."""

import re

import pytest

from dga_jax.errors import UserError
from dga_jax.prepare.assemble import check_distinct
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand, lego, read_documents

CLAUSE = re.compile(r"([a-z]) = (val|not) ([a-z01])")
TEXT = re.compile(r"Input: (.*)\. Output: ([a-z]) = ([01])")


def documents(pattern):
    return [d for shard in expand([pattern]) for d in read_documents(shard)]


def worked_out(text):
    """Clauses in the order of the text; steps from what is given; values as stated."""
    stated, asked, value = TEXT.fullmatch(text).groups()
    found = [CLAUSE.fullmatch(clause).groups() for clause in stated.split(", ")]
    clauses = {name: (sign, other) for name, sign, other in found}
    steps, name, flips = 0, asked, 0
    while name not in ("0", "1"):
        sign, name = clauses[name]
        flips += sign == "not"
        steps += 1
    return list(clauses), steps, int(name) ^ flips % 2, int(value)


@pytest.mark.parametrize("options", ["k=5", "k=3/clauses=7", "k=26", "k=1"])
def test_a_skill_is_how_many_steps_its_answer_takes(options):
    found = documents(f"lego:{options}/documents=40")
    skills = {f"skill_{i + 1}" for i in range(int(options.split("/")[0][2:]))}
    assert {d.domain for d in found} == skills
    for document in found:
        names, steps, value, said = worked_out(document.text)
        assert f"skill_{steps}" == document.domain
        assert value == said
        assert len(names) == int(options.split("=")[-1])
        assert document.num_bytes == len(document.text)


def test_orders_letters_and_values_are_all_there():
    texts = [d.text for d in documents("lego:skills=3/documents=3000")]
    found = [worked_out(text) for text in texts]
    asked = [TEXT.fullmatch(text)[2] for text in texts]
    places = [names.index(name) for (names, *_), name in zip(found, asked, strict=True)]
    assert {len(set(names)) for names, *_ in found} == {5}
    assert len({name for names, *_ in found for name in names}) == 26
    assert 0.45 < sum(value for *_, value in found) / len(found) < 0.55
    assert all(0.15 < places.count(i) / len(places) < 0.25 for i in range(5))


def test_a_document_depends_on_its_number_alone():
    path = lego.parse("k=4/seed=3").path(2)
    read = []
    whole = dict(lego.records(path, 0, 3000, read.append))
    part = dict(lego.records(path, 1000, 2100, lambda count: None))
    assert part == {number: whole[number] for number in range(1000, 2100)}
    assert sum(read) == sum(len(item["text"]) for item in whole.values())
    texts = {item["text"] for item in whole.values()}
    assert len(texts) == 3000
    other = dict(lego.records(lego.parse("k=4/seed=4").path(2), 0, 3000, read.append))
    assert not {d["text"] for d in other.values()} & texts
    first = (
        "Input: w = not v, d = val w, v = not e, b = val d, e = val 0. Output: w = 0"
    )
    assert documents("lego:skills=3/documents=1")[0].text == first  # stores last


def test_few_letters():
    """Those alone, in any order; all of them is what is without the option."""
    texts = [d.text for d in documents("lego:skills=3/letters=6/documents=300")]
    used = [worked_out(text)[0] for text in texts]
    assert {name for names in used for name in names} == set("abcdef")
    assert len({tuple(names) for names in used}) > 200
    assert all(worked_out(text)[1] == 3 for text in texts)
    whole, plain = (lego.parse(f"skills=3{x}") for x in ("/letters=26", ""))
    assert whole.path(3) == plain.path(3)
    assert lego.parse("skills=3/letters=6").path(3) != plain.path(3)


def test_clauses_in_the_order_of_the_chain():
    """Or backwards; variables have letters of their own; else all is as it was."""
    texts = [d.text for d in documents("lego:skills=3/ordered=1/letters=11")]
    found = [worked_out(text) for text in texts]
    assert all(steps == 3 and value == said for _, steps, value, said in found)
    own = [set("ab"), set("cd"), set("ef"), set("gh"), set("ij")]
    backwards = [names[0] > names[1] for names, *_ in found]
    assert 0.45 < sum(backwards) / len(backwards) < 0.55
    for back in (False, True):
        these = [f[0] for f, x in zip(found, backwards, strict=True) if x == back]
        named = [set(place) for place in zip(*these, strict=True)]
        assert named == own[:: -1 if back else 1]
    assert {TEXT.fullmatch(text)[2] for text in texts} == set("ef")
    free, ordered = (lego.parse(f"skills=3{x}") for x in ("/ordered=0", "/ordered=1"))
    assert free.path(3) == lego.parse("skills=3").path(3) != ordered.path(3)


def test_much_text_is_read_as_several_shards():
    shards = expand(["lego:skills=2-3/documents=150000"])
    assert [(s.domain, *s.examples) for s in shards] == [
        (f"skill_{skill}", low, high)
        for skill in (2, 3)
        for low, high in [(0, 65536), (65536, 131072), (131072, 150000)]
    ]
    assert len({shard.digest for shard in shards}) == 6
    assert shards[0].num_bytes == 65536 * 75


def test_one_name_for_all_and_no_text_twice():
    assert {d.domain for d in documents("all=lego:k=2/documents=3")} == {"all"}
    generic, same, other = (
        Corpus(tuple(expand([f"lego:{options}"])))
        for options in ("k=5", "skills=3/documents=7", "skills=3/documents=7/seed=1")
    )
    check_distinct(generic, other, None)
    with pytest.raises(UserError, match="seed=0/skill=3 is in both generic and target"):
        check_distinct(generic, same, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("k=27", "k=27 and clauses=27: it must be 1 ≤ k ≤ clauses ≤ 26"),
        ("k=5/clauses=4", "k=5 and clauses=4"),
        ("k=0", "k=0 and"),
        ("k=five", "k is no whole number"),
        ("skills=0-2", "they go from 1 to k=5"),
        ("skills=3-2", "they go from 1 to k=5"),
        ("skills=1+2", "neither a number nor two"),
        ("documents=0", "documents must be from 1"),
        ("k=5/k=5", "k is given twice"),
        ("words=3", "'words=3' is no option; write lego:skills=1-5"),
        ("letters=3", "k=5 and clauses=5: it must be 1 ≤ k ≤ clauses ≤ 3"),
        ("ordered=2", "ordered is 1, or 0"),
        ("letters=27", "letters=27: there are 26; lower it"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        documents(f"lego:{options}")
    assert f"lego:{options}: " in str(caught.value)

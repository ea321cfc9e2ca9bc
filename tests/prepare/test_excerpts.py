import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.prepare.excerpts import CorpusSample, Piece, PieceSample
from dga_jax.prepare.sources import Document


def corpus(**counts):
    """So many documents of 100 to 300 bytes, by domain."""
    draw = random.Random(0)
    texts = []
    for name, count in counts.items():
        for i in range(count):
            text = f"{name} {i} ".ljust(draw.randint(100, 300), "x")
            texts.append(Document(text, name, len(text)))
    return texts


def by_domain(pieces):
    sizes = {}
    for piece in pieces:
        sizes[piece.domain] = sizes.get(piece.domain, 0) + piece.num_bytes
    return sizes


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    limits=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    order=st.randoms(use_true_random=False),
)
def test_the_order_does_not_matter(sizes, limits, order):
    pieces = [
        Piece(order.randrange(99), (i, 0), "d", n, "") for i, n in enumerate(sizes)
    ]
    kept = []
    for _ in range(2):
        sample = PieceSample(max(limits))
        for piece in pieces:
            sample.add(piece)
        sample.limit(min(limits))
        kept.append(sample.pieces())
        assert sample.num_bytes == sum(p.num_bytes for p in kept[-1]) <= min(limits)
        order.shuffle(pieces)
    if len({piece.chance for piece in pieces}) == len(pieces):
        assert kept[0] == kept[1]


def test_domains_have_their_share():
    documents = corpus(large=8000, small=800)
    natural = CorpusSample(documents, 200_000, seed=0, even=False)
    share = by_domain(natural.learnt())
    assert 190_000 < sum(share.values()) <= 200_000
    assert share["large"] / share["small"] == pytest.approx(10, rel=0.25)
    even = CorpusSample(documents, 200_000, seed=0, even=True)
    share = by_domain(even.learnt())
    assert share == pytest.approx({"large": 100_000, "small": 100_000}, rel=0.05)


def test_learns_and_measures_on_different_documents():
    documents = corpus(a=500, b=300)
    sample = CorpusSample(documents, 10**9, seed=0, even=False)
    learnt = {piece.place[0] for piece in sample.learnt()}
    measured = {piece.place[0] for piece in sample.measured()}
    assert learnt | measured == set(range(800))
    assert not learnt & measured
    assert 20 < len(measured) < 70
    assert sample.documents == {"a": 500, "b": 300}
    assert sum(sample.sizes.values()) == sum(d.num_bytes for d in documents)


def test_long_documents_count_as_several():
    text = "größer " * 10_000
    long = Document(text, "long", len(text.encode()))
    sample = CorpusSample([long] * 8, 10**9, seed=1, even=False)
    assert "".join(p.text for p in sample.learnt() if p.place[0] == 0) in (text, "")
    some = CorpusSample([long] * 8, 100_000, seed=1, even=False)
    assert sum(by_domain(some.learnt()).values()) == pytest.approx(100_000, rel=0.06)
    assert len({piece.place[0] for piece in some.learnt()}) > 4


def test_many_domains_stay_within_the_limit():
    names = {f"d{i}": 20 for i in range(300)}
    sample = CorpusSample(corpus(**names), 100_000, seed=0, even=True)
    share = by_domain(sample.learnt())
    assert sum(share.values()) <= 100_000
    assert len(share) > 250


def test_another_seed_is_another_sample():
    documents = corpus(a=500)
    one, same, other = (
        list(CorpusSample(documents, 20_000, seed, even=False).learnt())
        for seed in (0, 0, 1)
    )
    assert one == same != other

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.prepare.excerpts import Excerpt, Excerpts, Reservoir
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


def by_domain(excerpts):
    sizes = {}
    for excerpt in excerpts:
        sizes[excerpt.domain] = sizes.get(excerpt.domain, 0) + excerpt.num_bytes
    return sizes


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    limits=st.tuples(st.integers(0, 400), st.integers(0, 400)),
    order=st.randoms(use_true_random=False),
)
def test_the_order_does_not_matter(sizes, limits, order):
    excerpts = [
        Excerpt(order.randrange(99), (i, 0), "d", n, "") for i, n in enumerate(sizes)
    ]
    kept = []
    for _ in range(2):
        reservoir = Reservoir(max(limits))
        for excerpt in excerpts:
            reservoir.add(excerpt)
        reservoir.limit(min(limits))
        kept.append(reservoir.excerpts())
        assert reservoir.num_bytes == sum(p.num_bytes for p in kept[-1]) <= min(limits)
        order.shuffle(excerpts)
    if len({excerpt.chance for excerpt in excerpts}) == len(excerpts):
        assert kept[0] == kept[1]


def test_domains_have_their_share():
    documents = corpus(large=8000, small=800)
    natural = Excerpts(documents, 200_000, seed=0, even=False)
    share = by_domain(natural.learnt())
    assert 190_000 < sum(share.values()) <= 200_000
    assert share["large"] / share["small"] == pytest.approx(10, rel=0.25)
    even = Excerpts(documents, 200_000, seed=0, even=True)
    share = by_domain(even.learnt())
    assert share == pytest.approx({"large": 100_000, "small": 100_000}, rel=0.05)


def test_learns_and_measures_on_different_documents():
    documents = corpus(a=500, b=300)
    excerpts = Excerpts(documents, 10**9, seed=0, even=False)
    learnt = {excerpt.place[0] for excerpt in excerpts.learnt()}
    measured = {excerpt.place[0] for excerpt in excerpts.measured()}
    assert learnt | measured == set(range(800))
    assert not learnt & measured
    assert 20 < len(measured) < 70
    assert excerpts.documents == {"a": 500, "b": 300}
    assert sum(excerpts.sizes.values()) == sum(d.num_bytes for d in documents)


def test_long_documents_count_as_several():
    text = "größer " * 10_000
    long = Document(text, "long", len(text.encode()))
    excerpts = Excerpts([long] * 8, 10**9, seed=1, even=False)
    assert "".join(p.text for p in excerpts.learnt() if p.place[0] == 0) in (text, "")
    some = Excerpts([long] * 8, 100_000, seed=1, even=False)
    assert sum(by_domain(some.learnt()).values()) == pytest.approx(100_000, rel=0.06)
    assert len({excerpt.place[0] for excerpt in some.learnt()}) > 4


def test_many_domains_stay_within_the_limit():
    names = {f"d{i}": 20 for i in range(300)}
    excerpts = Excerpts(corpus(**names), 100_000, seed=0, even=True)
    share = by_domain(excerpts.learnt())
    assert sum(share.values()) <= 100_000
    assert len(share) > 250


def test_another_seed_is_another_sample():
    documents = corpus(a=500)
    one, same, other = (
        list(Excerpts(documents, 20_000, seed, even=False).learnt())
        for seed in (0, 0, 1)
    )
    assert one == same != other

"""Which documents are kept and which are held out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.data.layout import split_documents


@st.composite
def corpora(draw):
    """Documents of 1 to 12 domains in groups: (domains, lengths, count, group)."""
    group, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    documents = draw(
        st.lists(
            st.tuples(
                st.integers(0, group * groups - 1),
                st.one_of(st.just(0), st.integers(2, 30)),
            ),
            min_size=1,
            max_size=120,
        )
    )
    domains, lengths = np.array(documents, np.int64).T
    return domains, lengths, group * groups, group


def tokens_of(streams, lengths, domain):
    """(document, position) of each token of a domain, in the order of its stream."""
    documents = streams.documents[streams.bounds[domain] : streams.bounds[domain + 1]]
    joined = [(int(d), t) for d in documents for t in range(lengths[d])]
    return joined[streams.starts[domain] : streams.stops[domain]]


@given(corpora(), st.integers(2, 7), st.integers(1, 9))
def test_every_token_is_kept_or_held_out(corpus, every, seq_len):
    domains, lengths, count, group = corpus
    kept, aside, too_small = split_documents(
        domains, lengths, count=count, group=group, every=every, seq_len=seq_len
    )
    for start in range(0, count, group):
        inside = range(start, start + group)
        alive = (lengths > 0) & (domains // group == start // group)
        held = [t for i in inside for t in tokens_of(aside, lengths, i)]
        all_kept = [t for i in inside for t in tokens_of(kept, lengths, i)]
        whole = [(int(d), t) for d in np.flatnonzero(alive) for t in range(lengths[d])]
        shared = set(held) & set(all_kept)
        assert set(held) | set(all_kept) == set(whole)
        if alive.sum() >= every:
            assert not shared
            assert len({d for d, _ in held}) == alive.sum() // every
        elif start // group in too_small or not alive.any():
            assert not held
        else:
            # The end of the largest stream; the token at the border is in both.
            assert len(shared) == 1
            assert len(held) > 1
            largest = max(lengths[domains == i].sum() for i in inside)
            owners = {int(domains[d]) for d, _ in held}
            assert len(owners) == 1
            assert lengths[domains == owners.pop()].sum() == largest


def test_what_is_held_out_comes_from_small_domains_too():
    """As many documents as their share: 200 domains of one document, one of 200."""
    domains = np.concatenate([np.arange(200), np.full(200, 200)])
    lengths = np.full(400, 5)
    _, aside, _ = split_documents(
        domains, lengths, count=201, group=201, every=20, seq_len=4
    )
    owners = domains[aside.documents]
    assert (owners < 200).sum() == (owners == 200).sum() == 10


def test_streams_are_in_the_order_of_the_documents():
    domains = np.array([1, 0, 1, 0, 1])
    lengths = np.array([2, 3, 4, 0, 5])
    kept, _, _ = split_documents(
        domains, lengths, count=2, group=1, every=100, seq_len=50
    )
    assert [d for d, _ in tokens_of(kept, lengths, 1)][:7] == [0, 0, 2, 2, 2, 2, 4]

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import small_config

from dga_jax.data.store import Domains, Store
from dga_jax.errors import UserError
from dga_jax.training import config as configs
from dga_jax.training.mixture import Mixture


def mixture_of(store, **fields):
    return Mixture(small_config(store, **fields), store)


class Empty(Store):
    """A store one of whose domains, named or clusters, has no rows."""

    def __init__(self, store, branching):
        super().__init__(store.path, store.manifest)
        self.branching = branching

    def domains(self, level=0):
        whole = super().domains(0)
        offsets = np.array(whole.offsets)
        offsets[3] = offsets[2]
        return Domains(whole.names, offsets, whole.heldout_offsets, whole.tokens)


def test_starts_uniform(byte_store):
    for text in ("", "uniform"):
        mixture = mixture_of(byte_store, mixer__weights=text)
        np.testing.assert_allclose(mixture.weights(mixture.init()), 1 / 8, rtol=1e-6)


def test_starts_natural(byte_store):
    mixture = mixture_of(byte_store, mixer__weights="natural")
    tokens = byte_store.domains().tokens
    np.testing.assert_allclose(
        mixture.domain_weights(mixture.init()), tokens / tokens.sum(), rtol=1e-6
    )


@pytest.mark.parametrize("form", ["flag", "file"])
def test_starts_by_name(form, byte_store, tmp_path):
    given = {"austen": 0.7, "wordnet": 1e-9, "dm_math": 0.3}
    if form == "flag":
        text = ", ".join(f"{name}={value}" for name, value in given.items())
    else:
        text = str(tmp_path / "weights.json")
        (tmp_path / "weights.json").write_text(json.dumps(given))
    mixture = mixture_of(byte_store, mixer__weights=text)
    weights = mixture.weights(mixture.init())
    names = byte_store.domains().names
    for name, weight in zip(names, weights, strict=True):
        assert weight == pytest.approx(given.get(name, 0), rel=1e-6)
        assert (weight == 0) == (name not in given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("austen=.5,austin=.5", "no domain 'austin'; there are austen, bible_web"),
        ("austen=.5,wordnet=.4", "sum to 0.9, not to 1"),
        ("austen=.5,wordnet=-.5", "weight -0.5 of 'wordnet' is not"),
        (
            "austen=1e308,wordnet=1e308",
            r"weight 1e\+308 of 'austen' is not in \[0, 1\]",
        ),
        ("austen=nan", r"not in \[0, 1\]"),
        ("austen=.5,austen=.5", "comes twice"),
        ("austen", "'austen' is not NAME=WEIGHT"),
        ("austen=much", "'austen=much' is not NAME=WEIGHT"),
        ("missing.json", "missing.json: No such file"),
    ],
)
def test_wrong_weights(text, words, byte_store):
    with pytest.raises(UserError, match=words):
        mixture_of(byte_store, mixer__weights=text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "expected an object"),
        ("{", "not JSON"),
        ('{"austen": "half"}', "'half' of 'austen'"),
        ('{"a:*": "half"}', "'half' of 'a:\\*'"),
        ('{"austen": 1' + "0" * 400 + "}", "of 'austen' is not in"),
        ('{"austen": ' + "[" * 200_000 + "]" * 200_000 + "}", "not JSON"),
    ],
)
def test_wrong_weight_files(content, words, byte_store, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        mixture_of(byte_store, mixer__weights=str(path))


def test_one_of_many_has_nobody_to_move_against(byte_store):
    with pytest.raises(UserError, match="probe_domains=1: weights move between"):
        mixture_of(byte_store, mixer__probe_domains=1)
    mixture_of(byte_store, mixer__probe_domains=1, mixer__name="odm")  # measures none


def test_the_floor_is_of_those_that_begin_with_a_weight(byte_store):
    """Others are not there for the mixer, as domains without rows are not."""
    half = {"mixer__weights": "austen=.9,wordnet=.1", "mixer__floor": 0.5}
    mixture = mixture_of(byte_store, **half)
    state = mixture.update(mixture.init(), 3, np.arange(8), np.arange(8.0))
    np.testing.assert_allclose(sorted(mixture.weights(state))[-2:], 0.5, rtol=1e-5)
    with pytest.raises(UserError, match="3 weights of at least that cannot sum to 1"):
        mixture_of(
            byte_store,
            mixer__floor=0.5,
            mixer__weights="austen=.8,wordnet=.1,dm_math=.1",
        )


def test_a_named_domain_without_rows_is_an_error(byte_store):
    with pytest.raises(UserError, match="'dm_math' has no training rows"):
        mixture_of(Empty(byte_store, ()))


def test_an_empty_cluster_has_weight_zero(byte_store):
    store = Empty(byte_store, (8,))
    mixture = mixture_of(store)
    state = mixture.init()
    assert mixture.num_probes == 7
    signal = np.ones(7)
    probes = mixture.probes(3)
    assert 2 not in probes.indices
    for step in (3, 6):
        state = mixture.update(state, step, probes.indices, signal * step)
    weights = mixture.domain_weights(state)
    assert weights[2] == 0
    assert weights.sum() == pytest.approx(1)
    domains = mixture.cumulative(state).draw(np.random.default_rng(0), 10_000)
    assert 2 not in domains
    with pytest.raises(UserError, match="'2' has no training rows"):
        mixture_of(store, mixer__weights="2=.5,0=.5")


def test_update_by_hand(byte_store):
    """The log-space EMA of an exponentiated gradient, on two of eight domains."""
    mixture = mixture_of(byte_store, mixer__eta=2.0, mixer__beta=0.25)
    state = mixture.init()
    signal = np.array([0.4, -0.1], np.float32)
    moved = mixture.weights(mixture.update(state, 3, np.array([1, 4]), signal))
    hat = np.exp(2 * signal) / np.exp(2 * signal).sum() * 2 / 8
    expected = np.full(8, 1 / 8)
    expected[[1, 4]] = 0.75 / 8 + 0.25 * hat
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_a_signal_that_is_not_finite_is_skipped(byte_store):
    mixture = mixture_of(byte_store)
    state = mixture.init()
    signal = np.zeros(8, np.float32)
    signal[3] = np.nan
    after = mixture.update(state, 3, np.arange(8), signal)
    assert mixture.skipped_updates(after) == 1
    np.testing.assert_array_equal(after.log_weights, state.log_weights)


def test_static_never_moves(byte_store):
    mixture = mixture_of(byte_store, mixer__name="static")
    assert not mixture.moves
    assert mixture.skipped_updates(mixture.init()) == 0


def save_basis(folder, matrix, **fields):
    np.savez(folder / "P.npz", P=matrix, **fields)
    return str(folder / "P.npz")


def test_a_basis_mixes(byte_store, tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.dirichlet(np.ones(8), size=3)
    path = save_basis(tmp_path, matrix, names=["a", "b", "c"])
    mixture = mixture_of(byte_store, mixer__basis=path, mixer__eta=1.0)
    assert mixture.names == ("a", "b", "c")
    assert mixture.num_probes == 3
    state = mixture.update(mixture.init(), 3, np.arange(3), np.array([1.0, 0.0, 0.0]))
    w = mixture.weights(state)
    assert w[0] > 1 / 3 > w[1]
    np.testing.assert_allclose(mixture.domain_weights(state), w @ matrix, rtol=1e-6)
    probes = mixture.probes(3)
    assert probes.indices.tolist() == [0, 1, 2]
    assert probes.rows.shape == (3, 2)


def test_a_basis_starts_by_its_own_names(byte_store, tmp_path):
    path = save_basis(tmp_path, np.eye(8)[:2], names=["a", "b"])
    mixture = mixture_of(byte_store, mixer__basis=path, mixer__weights="a=.25,b=.75")
    np.testing.assert_allclose(mixture.weights(mixture.init()), [0.25, 0.75], rtol=1e-6)
    with pytest.raises(UserError, match="weights of domains, not of a basis"):
        mixture_of(byte_store, mixer__basis=path, mixer__weights="natural")


def test_a_basis_avoids_empty_clusters(byte_store, tmp_path):
    store = Empty(byte_store, (8,))
    matrix = np.full((2, 8), 1 / 8)
    path = save_basis(tmp_path, matrix)
    mixture = mixture_of(store, mixer__basis=path)
    np.testing.assert_allclose(
        mixture.domain_weights(mixture.init()),
        np.where(np.arange(8) == 2, 0, 1 / 7),
        rtol=1e-6,
    )
    matrix[1] = np.arange(8) == 2
    with pytest.raises(UserError, match="'basis_1' lies on domains without"):
        mixture_of(store, mixer__basis=save_basis(tmp_path, matrix))


def test_a_floor_that_cannot_be(byte_store):
    assert mixture_of(byte_store, mixer__floor=1 / 8)
    with pytest.raises(UserError, match="8 weights of at least that cannot sum to 1"):
        mixture_of(byte_store, mixer__floor=0.126)


def test_a_limit_of_tokens_is_rows(byte_store):
    for tokens, rows in ((32 * 5, 5), (32 * 5 + 31, 5), (3, 1), (0, None)):
        mixture = mixture_of(byte_store, data__tokens_per_domain=tokens)
        sizes = byte_store.domains().num_rows if rows is None else np.full(8, rows)
        assert np.array_equal(mixture.sampler.sizes, sizes)


@pytest.mark.parametrize("basis", [False, True])
def test_rows_that_cannot_last(basis, byte_store, tmp_path):
    """12 steps of 8 rows are 96; domains of weight 0 do not count."""
    half = np.arange(8) < 4
    fields = {"mixer__weights": ",".join(f"{n}=.25" for n in _names(byte_store)[:4])}
    if basis:
        path = save_basis(tmp_path, np.array([half / 4, half / 4]))
        fields = {"mixer__basis": path}
    fields |= {"data__tokens_per_domain": 12 * 32}
    mixture_of(byte_store, data__max_epochs=2, **fields)
    mixture_of(byte_store, data__max_epochs=0, **fields)
    with pytest.raises(UserError, match=r"48 rows may be drawn, but 12 .* need 96"):
        mixture_of(byte_store, data__max_epochs=1, **fields)


def _names(store):
    return store.domains().names


class Named:
    """What a mixture needs of a store of k named domains of three rows each."""

    branching, path = (), "store"

    def __init__(self, k):
        ends = 3 * np.arange(k + 1)
        names = [f"d{i}" for i in range(k)]
        self.of = Domains(names, ends, ends, np.full(k, 96))

    def domains(self, level):
        return self.of


@settings(max_examples=50, deadline=None)
@given(
    k=st.integers(1, 40),
    m=st.integers(2, 40),
    interval=st.integers(1, 30),
    start=st.integers(0, 100),
)
def test_every_round_of_updates_probes_every_domain(k, m, interval, start):
    """The first too: ceil(k/m) updates, whatever the interval and where they begin."""
    fields = {"probe_domains": m, "interval": interval, "start": start}
    fields = {f"mixer__{name}": value for name, value in fields.items()}
    mixture = mixture_of(Named(k), **fields)
    steps, step = [], 0
    for _ in range(3 * -(-k // m)):
        step = configs.next_update(mixture._config, step)
        steps.append(step)
    probed = [mixture.probes(step).indices for step in steps]
    assert all(len(indices) == min(k, m) for indices in probed)
    for round_ in np.array_split(np.array(probed), 3):
        assert set(round_.ravel()) == set(range(k))


def test_too_many_probes(byte_store, monkeypatch):
    monkeypatch.setattr("dga_jax.training.mixture._MOST_PROBES", 7)
    with pytest.raises(UserError, match="would probe 8 domains"):
        mixture_of(byte_store)
    assert mixture_of(byte_store, mixer__name="static")
    assert mixture_of(byte_store, mixer__probe_domains=7).num_probes == 7


def test_state_is_small_and_float32(byte_store):
    leaves = jax.tree.leaves(mixture_of(byte_store).init())
    assert sorted(str(leaf.dtype) for leaf in leaves) == ["float32", "int32"]

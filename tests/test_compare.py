"""The comparison of mixtures."""

import numpy as np
import pytest
from PIL import Image
from runs import log_of, small_config, stopped

from dga_jax import compare
from dga_jax.errors import UserError
from dga_jax.logs import plot
from dga_jax.logs.console import scientific
from dga_jax.training import setup


@pytest.fixture(scope="module")
def config(cluster_store):
    return small_config(
        cluster_store,
        data__level=1,
        mixer__basis="level0",
        train__steps=4,
        mixer__interval=2,
        eval__every=2,
    )


@pytest.fixture(scope="module")
def compared(config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("compare")
    return directory, compare.compare(config, set(), directory, [0, 1])


def test_every_mixture_is_trained_with_every_seed(compared):
    directory, outcomes = compared
    expected = [(mixture, seed) for seed in (0, 1) for mixture in compare.MIXTURES]
    assert [(outcome.mixture, outcome.seed) for outcome in outcomes] == expected
    for mixture, seed in expected:
        assert log_of(directory / f"{mixture}-{seed}")[-1]["step"] == 4
    # The same model at the start, whatever the mixture; another one with another seed.
    first = {
        (o.mixture, o.seed): o.curves["target loss"][1][0].item() for o in outcomes
    }
    assert len({first[mixture, 0] for mixture in compare.MIXTURES}) == 1
    assert first["dga", 0] != first["dga", 1]


def test_the_weights_are_those_of_the_mixtures(compared, cluster_store):
    _, outcomes = compared
    alive = (cluster_store.domains(1).num_rows > 0).sum()
    effective = {o.mixture: o.final["effective domains"] for o in outcomes}
    assert effective["uniform"] == pytest.approx(alive)
    assert effective["importance"] < alive / 2
    assert effective["dga"] < alive
    assert effective["dga-basis"] < alive


def test_what_each_mixture_cost_stands_beside_it(compared):
    directory, outcomes = compared
    _, *lines = compare.table(outcomes).splitlines()
    for line, mixture in zip(lines, compare.MIXTURES, strict=True):
        spent = log_of(directory / f"{mixture}-0")[-1]["cost/flops"]
        assert line.split()[-1] == scientific(spent)
    for outcome in outcomes:
        for panel, (flops, losses) in outcome.by_flops.items():
            np.testing.assert_array_equal(losses, outcome.curves[panel][1])
            assert (np.diff(flops) > 0).all()
    ends = {o.mixture: o.by_flops["target loss"][0][-1] for o in outcomes}
    assert ends["uniform"] == ends["importance"] < ends["dga-basis"]


def test_most_epochs_are_those_of_the_most_repeated_domain(compared, config):
    directory, outcomes = compared
    (outcome,) = (o for o in outcomes if (o.mixture, o.seed) == ("importance", 1))
    parts = setup.check(compare.variant(config, "importance", 1, 0), ())
    opened = setup.open_run(parts, directory / "importance-1")
    opened.checkpoints.close()
    expected = parts.mixture.sampler.epochs(opened.snapshot.cursors).max()
    assert outcome.final["most epochs"] == pytest.approx(expected, rel=1e-6)


def test_what_is_trained_is_not_trained_again(compared, config, monkeypatch):
    directory, outcomes = compared
    monkeypatch.setattr(compare, "train", None)
    again = compare.compare(config, set(), directory, [0, 1])
    assert [o.final for o in again] == [o.final for o in outcomes]


def test_stopped_it_goes_on(config, tmp_path, monkeypatch, compared):
    with stopped(monkeypatch, 3, by="sigterm"):
        assert compare.compare(config, set(), tmp_path, [1]) is None
    outcomes = compare.compare(config, set(), tmp_path, [1])
    expected = [o.final for o in compared[1] if o.seed == 1]
    assert [o.final for o in outcomes] == expected


def test_table(compared):
    _, outcomes = compared
    header, *lines = compare.table(outcomes).splitlines()
    assert header.split("  ")[-1].strip() == "total FLOPs"
    assert [line.split()[0] for line in lines] == list(compare.MIXTURES)
    losses = [o.final["target loss"] for o in outcomes if o.mixture == "dga"]
    cell = f"{np.mean(losses):.3f} ± {np.std(losses, ddof=1):.3f}"
    assert cell in lines[2]
    assert "±" not in compare.table(outcomes[:4])


def test_weights_that_are_not_what_is_drawn_are_said_to_be(compared):
    _, outcomes = compared
    assert "used up" not in compare.table(outcomes)
    first = outcomes[0]
    of = dict(first.final, **{"used up": 0.25, "generic, natural": np.nan})
    *_, note = compare.table([first._replace(final=of), *outcomes[1:]]).splitlines()
    assert "domains are used up (data.max_epochs)" in note
    assert note.endswith("uniform, seed 0 (0.25 of the weight)")


def test_plot(compared, tmp_path):
    _, outcomes = compared
    path = tmp_path / "compare.png"
    curves, by_flops = (
        [(o.mixture, getattr(o, kind)) for o in outcomes]
        for kind in ("curves", "by_flops")
    )
    sizes = []
    for more in ((), by_flops):
        plot.draw_comparison(path, curves, more)
        with Image.open(path) as picture:
            sizes.append(picture.size)
        assert list(tmp_path.iterdir()) == [path]
    assert sizes[1] == (sizes[0][0], 2 * sizes[0][1])
    nothing = {panel: (np.array([]), np.array([])) for panel in outcomes[0].curves}
    plot.draw_comparison(path, [("uniform", nothing)])


def test_nothing_is_trained_if_one_mixture_cannot_be(config, byte_store, tmp_path):
    bad = small_config(byte_store, mixer__basis="level0")
    with pytest.raises(UserError, match=r"dga-basis, seed 0: .* are not clusters"):
        compare.compare(bad, set(), tmp_path, [0])
    with pytest.raises(UserError, match=r"mixer\.basis is not set"):
        compare.compare(small_config(byte_store), set(), tmp_path, [0])
    assert not list(tmp_path.iterdir())

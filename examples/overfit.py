"""Does the gradient of a domain fall as it is learnt by heart?

    python -m examples.overfit [--seeds=5] [--figure=overfit.png]

A small transformer on the text that comes with the code, in 16 clusters of 16 rows.
Some are read forty times and some once; which, the seed draws. At times the gradients
of each cluster's training rows, all of them, and of as many held out are compared.
"""

import argparse
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dga_jax.data.store import Store
from dga_jax.experiment.statistics import interval
from dga_jax.experiment.tables import spearman
from dga_jax.mixing.alignment import tree_dot
from dga_jax.model.loss import make_row_losses
from dga_jax.model.transformer import ModelConfig, Transformer, abstract
from dga_jax.stores import find_store

ROWS, BATCH, STEPS, EVERY = 16, 16, 200, 40
MOST = 32  # times as often as the least read cluster the most read one is drawn
# What is measured of a cluster: norms of both gradients, their inner product, held-out
# less training loss, and how often its rows were read.
NORM, HELD_NORM, ALIGNED, GAP, EPOCHS = range(5)
PAIRS = {
    "norm, epochs": (NORM, EPOCHS),
    "norm, held-out less training loss": (NORM, GAP),
    "held-out norm, epochs": (HELD_NORM, EPOCHS),
    "alignment of the two, epochs": (ALIGNED, EPOCHS),
    "held-out less training loss, epochs": (GAP, EPOCHS),
}


def rows(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Rows [k, ROWS, L+1] of each cluster, those to train on and those held out."""
    domains = store.domains(0)

    def some(split: str, offsets: np.ndarray) -> np.ndarray:
        share = np.arange(ROWS) / ROWS
        ids = offsets[:-1, None] + (np.diff(offsets)[:, None] * share).astype(np.int64)
        return store.read(split, ids.ravel()).reshape(*ids.shape, -1)

    return some("train", domains.offsets), some("heldout", domains.heldout_offsets)


class Programs(NamedTuple):
    """Compiled once: of a key, a model and its optimizer; a step; what is measured."""

    begin: Callable
    step: Callable
    measured: Callable


@functools.cache
def programs(vocab_size: int) -> Programs:
    """Those of a model with so many tokens."""
    config = ModelConfig(vocab_size, 2, 64, 2, 2, 128, remat="none", unrolled=True)
    losses = make_row_losses(abstract(config)[0])
    rate = optax.linear_schedule(0.0, 3e-3, 20)  # then constant: no decay lowers a norm
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))

    def loss(params: dict, batch: jax.Array) -> jax.Array:
        found = losses(params, batch)
        return jnp.sum(found.nll) / jnp.sum(found.count)

    def begin(key: jax.Array) -> tuple:
        params = nnx.state(Transformer(config, rngs=nnx.Rngs(key)), nnx.Param)
        params = nnx.to_pure_dict(params)
        return params, optimizer.init(params)

    def step(params: dict, state: tuple, batch: jax.Array) -> tuple:
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    def measured(params: dict, kept: jax.Array, held: jax.Array) -> jax.Array:
        def of_one(parts: tuple[jax.Array, jax.Array]) -> jax.Array:
            losses, gradients = zip(
                *(jax.value_and_grad(loss)(params, part) for part in parts), strict=True
            )
            here, there = gradients
            norms = [jnp.sqrt(tree_dot(x, x)) for x in gradients]
            return jnp.stack([*norms, tree_dot(here, there), losses[1] - losses[0]])

        return jax.lax.map(of_one, (kept, held))

    return Programs(jax.jit(begin), jax.jit(step), jax.jit(measured))


def train(
    store: Store, seed: int, steps: int = STEPS, every: int = EVERY
) -> np.ndarray:
    """What is measured, [times, 5, k], of a model that is trained with a seed."""
    rng = np.random.default_rng(seed)
    kept, held = rows(store)
    run = programs(store.vocab_size)
    params, state = run.begin(jax.random.key(seed))
    weights = rng.permutation(MOST ** np.linspace(0, 1, len(kept)))
    weights /= weights.sum()
    drawn, found = np.zeros(len(kept), int), []
    for i in range(1, steps + 1):
        batch = np.empty((BATCH, kept.shape[2]), kept.dtype)
        for j, domain in enumerate(rng.choice(len(kept), BATCH, p=weights)):
            batch[j] = kept[domain, drawn[domain] % ROWS]
            drawn[domain] += 1
        params, state = run.step(params, state, batch)
        if i % every == 0:
            columns = np.asarray(run.measured(params, kept, held)).T
            found.append(np.concatenate([columns, drawn[None] / ROWS]))
    return np.stack(found)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, along the first axis."""
    return np.vectorize(spearman, signature="(n),(n)->()")(a.T, b.T)


def report(found: np.ndarray) -> str:
    """Correlations with 95% intervals over seeds, of what `train` gave by seed."""
    order = np.argsort(found[:, -1, EPOCHS], axis=-1)
    third = order.shape[1] // 3
    lines = [f"{'correlation of':36}{'over clusters, at the end':>27}"]
    lines[0] += f"{'over time, most read':>24}{'over time, least read':>24}"
    for name, (a, b) in PAIRS.items():
        over = [correlation(x[-1, a], x[-1, b]) for x in found]
        by_cluster = np.stack([correlation(x[:, a], x[:, b]) for x in found])
        ranked = np.take_along_axis(by_cluster, order, axis=1)
        values = over, ranked[:, -third:].mean(axis=1), ranked[:, :third].mean(axis=1)
        cells = [_cell(*interval(x)[:3]) for x in values]
        lines.append(f"{name:36}{cells[0]:>27}{cells[1]:>24}{cells[2]:>24}")
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    """Without the interval, which one seed has none of."""
    return f"{mean:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def draw(found: np.ndarray, path: str, every: int = EVERY) -> None:
    """Norms over time by how often text was read, and norm against gap at the end."""
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    order = np.argsort(found[:, -1:, EPOCHS], axis=-1)
    parts = zip(("least", "", "most"), np.array_split(order, 3, axis=-1), strict=True)
    times = np.arange(1, found.shape[1] + 1) * every
    for i, (name, part) in enumerate(parts):
        if name:
            take = functools.partial(np.take_along_axis, indices=part, axis=-1)
            for column, style in (NORM, "-"), (HELD_NORM, "--"):
                text = f"{name} read, {'held-out' if column else 'training'} rows"
                mean = take(found[:, :, column]).mean(axis=(0, 2))
                left.plot(times, mean, style, color=f"C{i}", label=text)
    left.set(xlabel="step", ylabel="norm of the gradient", ylim=(0, None))
    left.legend()
    last = found[:, -1]
    colour = np.log2(last[:, EPOCHS])
    shown = right.scatter(last[:, GAP], last[:, NORM], c=colour, s=14)
    right.set(xlabel="held-out less training loss", ylabel="norm, training rows")
    plt.colorbar(shown, label="log2 of times read")
    plt.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", default="overfit.png")
    flags = parser.parse_args()
    store = Store.open(find_store("sample-clusters", 64))
    everything = np.stack([train(store, seed) for seed in range(flags.seeds)])
    print(report(everything))
    draw(everything, flags.figure)

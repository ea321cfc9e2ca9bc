"""Images instead of text: which kinds of digits help to read digits that lie on a side?

    python -m examples.digits

An MLP learns scikit-learn's digits, of five kinds. The target is a few digits turned by
90 degrees; one kind is like it, and one has labels that say nothing. Even weights, DGA.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from dga_jax.mixing import mixers
from dga_jax.mixing.alignment import alignment_step, target_direction

KINDS = ("upright", "turned 90", "mirrored", "noisy", "wrong labels")
BATCH, PROBES, TARGET_ROWS, INTERVAL = 64, 32, 64, 10

Batch = dict[str, np.ndarray]


def kinds(rng: np.random.Generator, few: int = 64) -> tuple[list[Batch], Batch, Batch]:
    """Rows of each kind, a few of the target to steer by, and others to judge by."""
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(images))
    x, y = images[order].reshape(-1, 8, 8).astype(np.float32) / 16, labels[order]
    parts = np.array_split(np.arange(len(x)), len(KINDS) + 2)
    turned = functools.partial(np.rot90, axes=(1, 2))
    change = {
        "turned 90": turned,
        "mirrored": lambda x: x[:, :, ::-1],
        "noisy": lambda x: x + rng.normal(0, 1, x.shape).astype(np.float32),
    }
    found = [
        {"x": change.get(kind, lambda x: x)(x[part]).reshape(-1, 64), "y": y[part]}
        for kind, part in zip(KINDS, parts[:-2], strict=True)
    ]
    found[-1]["y"] = rng.permutation(found[-1]["y"])
    rest = np.concatenate(parts[-2:])
    target = {"x": turned(x[rest]).reshape(-1, 64), "y": y[rest]}
    steer = {key: value[:few] for key, value in target.items()}
    return found, steer, {key: value[few:] for key, value in target.items()}


def loss(params: list, batch: Batch) -> jax.Array:
    """Cross-entropy of each row, [b]."""
    (w, b), (v, c) = params
    logits = jnp.tanh(batch["x"] @ w + b) @ v + c
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


def train(mixer: mixers.Mixer, steps: int = 300, seed: int = 0) -> tuple[dict, float]:
    """Weights by kind at the end, and the target's loss on rows not steered by."""
    rng = np.random.default_rng(seed)
    domains, steer, judge = kinds(rng)
    params = [
        (jnp.asarray(rng.normal(0, 1 / 8, (64, n)), jnp.float32), jnp.zeros(n))
        for n in (64, 10)
    ]
    optimizer, weights = optax.adam(3e-3), mixers.init(mixer, np.full(5, 0.2))
    state = optimizer.init(params)

    def rows(batch: Batch, count: int) -> Batch:
        chosen = rng.integers(0, len(batch["y"]), count)
        return {key: value[chosen] for key, value in batch.items()}

    for i in range(1, steps + 1):
        alpha = np.exp(np.asarray(weights.log_weights, np.float64))
        each = rng.multinomial(BATCH, alpha / alpha.sum())
        parts = list(map(rows, domains, each))
        batch = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        params, state = _step(optimizer, params, state, batch)
        if i % INTERVAL == 0 and mixer.moves:
            parts = [rows(domain, PROBES) for domain in domains]
            probes = jax.tree.map(lambda *x: np.stack(x), *parts)
            direction, norm = target_direction(loss, params, rows(steer, TARGET_ROWS))
            aligned = alignment_step(loss, params, direction, probes).alignments
            weights = mixers.update(mixer, weights, aligned / norm, step=i)
    last = [round(float(w), 3) for w in np.exp(weights.log_weights)]
    return dict(zip(KINDS, last, strict=True)), float(loss(params, judge).mean())


@functools.partial(jax.jit, static_argnums=0)
def _step(
    optimizer: optax.GradientTransformation, params: list, state: tuple, batch: Batch
) -> tuple[list, tuple]:
    gradient = jax.grad(lambda p: loss(p, batch).mean())(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state


if __name__ == "__main__":
    for mixer in mixers.static(), mixers.dga(eta=5.0, beta=0.3):
        print("weights {}, target loss {:.3f}".format(*train(mixer)))

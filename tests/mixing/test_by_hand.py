"""Each mixer against its equation, worked out in float64 for six updates."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest

from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MIXERS
from dga_jax.mixing.recipe import UnfitError
from dga_jax.mixing.signals import Signals

ROOT = pathlib.Path(__file__).parents[2]
K, UPDATES, START = 3, 6, np.array([0.5, 0.3, 0.2])
RNG = np.random.default_rng(7)
A, ERRORS = RNG.normal(size=(UPDATES, K)), RNG.uniform(0.1, 1, (UPDATES, K))
LOSSES, REFERENCE = RNG.uniform(2, 4, (UPDATES, K)), RNG.uniform(1, 3, (UPDATES, K))
TRAINED = LOSSES.copy()
TRAINED[1, 2] = np.nan  # of which no row was drawn then
TOKENS = np.cumsum(RNG.uniform(100, 900, (UPDATES, K)), axis=0)
NORMS, VARIANCES = RNG.uniform(0.5, 2, (UPDATES, K)), RNG.uniform(1, 9, (UPDATES, K))
GENERIC = RNG.uniform(1, 9, (UPDATES, K))
TARGET_A, TARGET_LOSSES = (
    RNG.normal(size=(UPDATES, 2, K)),
    RNG.uniform(2, 4, (UPDATES, 2)),
)
RATES = 1e-3 * np.arange(1, 1 + UPDATES)


def signals_of(t):
    """Those before update t, all of them."""
    found = {
        "alignments": A,
        "standard_errors": ERRORS,
        "losses": LOSSES,
        "train_losses": TRAINED,
        "rows": TOKENS / 10,
        "tokens": TOKENS,
        "reference_losses": REFERENCE,
        "gradient_norms": NORMS,
        "gradient_variances": VARIANCES,
        "generic_alignments": GENERIC,
        "target_alignments": TARGET_A,
        "target_losses": TARGET_LOSSES,
        "learning_rate": RATES,
    }
    return Signals(**{k: jnp.asarray(v[t], jnp.float32) for k, v in found.items()})


def run(mixer, start=START, updates=UPDATES):
    """Weights after each update."""
    state, found = mixers.init(mixer, start), []
    for t in range(updates):
        state = mixers.update(mixer, state, signals_of(t), step=t + 1)
        found.append(np.exp(np.asarray(state.log_weights, np.float64)))
        assert state.inner.skipped == 0
    return np.array(found)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def multiplied(gains, start=START):
    """Weights after each α ∝ α exp(gain)."""
    found = []
    for gain in gains:
        start = start * np.exp(gain) / (start * np.exp(gain)).sum()
        found.append(start)
    return np.array(found)


def dga():
    found, alpha = [], START
    for a in A:
        hat = alpha * np.exp(0.5 * a) / (alpha * np.exp(0.5 * a)).sum()
        alpha = 0.75 * alpha + 0.25 * hat
        found.append(alpha)
    return found


def fastmix():
    """AdamW of torch: decay first, moments without bias."""
    z, m, v, found = np.log(START), np.zeros(K), np.zeros(K), []
    for t, (a, lr) in enumerate(zip(A, RATES, strict=True), 1):
        alpha = softmax(z)
        g = -lr * (np.diag(alpha) - np.outer(alpha, alpha)) @ a
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        z = z * (1 - 0.05 * 0.2) - 0.05 * step
        found.append(softmax(z))
    return found


def grape():
    u, z, found = np.log(START), np.full(2, 0.5), []
    for a, losses in zip(TARGET_A, TARGET_LOSSES, strict=True):
        by_target = a / losses[:, None]
        helped = by_target @ softmax(u)
        u = u + 1.5 * z @ by_target
        z = softmax(np.log(z) - 10 * helped)
        found.append(softmax(u))
    return found


def excess(rate, c):
    found, alpha = [], START
    for now, reference in zip(LOSSES, REFERENCE, strict=True):
        hat = alpha * np.exp(rate * np.maximum(now - reference, 0))
        alpha = (1 - c) * hat / hat.sum() + c / K
        found.append(alpha)
    return found


def velocitune():
    way = LOSSES[0] - REFERENCE
    part = np.clip((LOSSES - REFERENCE) / np.where(way > 0, way, np.nan), 0, 1)
    return multiplied(np.nan_to_num(part))


def skill_it(graph):
    return [
        softmax(0.5 * (graph @ LOSSES[max(0, t - 1) : t + 1].sum(axis=0)))
        for t in range(UPDATES)
    ]


def odm():
    rewards, found = np.zeros(K), []
    for t, losses in enumerate(TRAINED, 1):
        new = 0.8 * rewards + 0.2 * np.exp(losses)
        rewards = np.where(np.isnan(losses), rewards, new)
        least = min(1 / K, np.sqrt(np.log(K) / (K * t)))
        found.append((1 - K * least) * rewards / rewards.sum() + least)
    return found


def odm_exp3():
    w, p, found = np.ones(K), START, []
    for losses in TRAINED:
        w = w * np.exp(np.nan_to_num(0.3 * losses / p) / K)
        p = 0.9 * w / w.sum() + 0.1 / K
        found.append(p)
    return found


GRAPH = np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 0.2]])
CASES = {
    "dga": (lambda: mixers.dga(0.5, 0.25), dga),
    "doge": (
        lambda: MIXERS["doge"](mu=0.01, least=-0.4, most=0.6),
        lambda: multiplied(RATES[:, None] * np.clip(A, -0.4, 0.6) / 0.01),
    ),
    "doge_universal": (
        lambda: MIXERS["doge_universal"](mu=0.01),
        lambda: multiplied(RATES[:, None] * np.clip(GENERIC - NORMS**2, 0, 5) / 0.01),
    ),
    "rb": (
        lambda: MIXERS["rb"](sharpness=2.0),
        lambda: [softmax(2 * a / np.linalg.norm(a)) for a in A],
    ),
    "fastmix": (lambda: MIXERS["fastmix"](rate=0.05, decay=0.2), fastmix),
    "grape": (lambda: MIXERS["grape"](targets=2), grape),
    "pike": (
        lambda: MIXERS["pike"](zeta1=0.3, zeta2=0.7, batch_size=4),
        lambda: multiplied(0.3 * NORMS**2 - 0.7 * VARIANCES / 8),
    ),
    "doremi": (lambda: MIXERS["doremi"](rate=0.5), lambda: excess(0.5, 1e-3)),
    "sheared": (lambda: MIXERS["sheared"](), lambda: excess(1.0, 1e-4)),
    "velocitune": (lambda: MIXERS["velocitune"](), velocitune),
    "skill_it": (
        lambda: MIXERS["skill_it"](window=2),
        lambda: skill_it(np.eye(K)),
    ),
    "odm": (lambda: MIXERS["odm"](memory=0.8), odm),
    "odm_exp3": (lambda: MIXERS["odm_exp3"](), odm_exp3),
}


@pytest.mark.parametrize("name", CASES)
def test_six_updates(name):
    made, expected = CASES[name]
    found = run(made())
    np.testing.assert_allclose(found, np.array(expected()), rtol=2e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # they move


def test_every_equation_has_a_case():
    """Of those that docs/mixers.md gives; some have tests of their own."""
    page = (ROOT / "docs" / "mixers.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    moving = {n for n in re.findall(r"\w+", " ".join(named)) if MIXERS[n].moves}
    dealt = {"random", "by_loss", "by_norm", "by_fisher"}
    assert moving == CASES.keys() | dealt | {"ado"}


def test_a_graph_of_skills():
    made = MIXERS["skill_it"](window=2, graph=GRAPH)
    np.testing.assert_allclose(run(made), skill_it(GRAPH), rtol=2e-5)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (np.eye(4), "it is 4 x 4, but there are 3 domains; give one of 3 x 3"),
        (np.ones(3), "it is 3, but there are 3 domains; give one of 3 x 3"),
        (np.array(1.0), "it is a number, but there are 3 domains; give one of 3 x 3"),
    ],
)
def test_a_graph_of_other_domains(graph, words):
    with pytest.raises(UnfitError) as caught:
        mixers.init(MIXERS["skill_it"](graph=graph), START)
    assert (caught.value.option, str(caught.value)) == ("graph", words)


def test_pikes_two_tasks():
    """½θ_1² and ½θ_2² with noise: the weight is a logistic function in closed form."""
    theta, sigma2, b = np.array([0.8, 0.3]), np.array([0.5, 0.1]), 8
    made = MIXERS["pike"](zeta1=2.0, zeta2=3.0, batch_size=b)
    signals = Signals(
        gradient_norms=jnp.array(theta), gradient_variances=jnp.array(sigma2)
    )
    state = mixers.update(made, mixers.init(made, [0.5, 0.5]), signals, step=1)
    odds = 2 * (0.8**2 - 0.3**2) - 3 * (0.5 - 0.1) / (2 * b)
    assert np.exp(state.log_weights[0]) == pytest.approx(1 / (1 + np.exp(-odds)))


# --- ado


def curves(tokens, level, scale, power):
    return level + scale * tokens**-power


def test_ado_follows_the_slopes():
    """On curves of its own form: they are found, and ρ is that of their slopes."""
    level, scale, power = np.array([0.0, 0.5, 1.0]), 4.0, np.array([0.3, 0.2, 0.4])
    tokens = 1000.0 * np.arange(1, 9)[:, None] * np.array([1.0, 2.0, 3.0])
    losses = curves(tokens, level, scale, power)
    mixer = MIXERS["ado"](warmup=3)
    state = mixers.init(mixer, START)
    history, average, alpha = START, START, START
    for t in range(8):
        signals = Signals(
            train_losses=jnp.asarray(losses[t], jnp.float32),
            tokens=jnp.asarray(tokens[t], jnp.float32),
        )
        state = mixers.update(mixer, state, signals, step=t + 1)
        history = 0.9 * history + 0.1 * alpha
        if t >= 2:
            # Levels are sixteenths of the first loss: the slope is close, not exact.
            slope = power * scale * tokens[t] ** (-power - 1)
            rho = START * slope * history**0.5
            rho = np.maximum(rho / rho.sum(), 1e-2)
            rho /= rho.sum()
            alpha = 0.9 * average + 0.1 * rho
            average = average + (rho - average) / (t + 2)
        now = np.exp(np.asarray(state.log_weights, np.float64))
        np.testing.assert_allclose(now, alpha, atol=0.01)
    assert abs(now - START).max() > 0.02

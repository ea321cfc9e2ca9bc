"""A tiny experiment, for tests."""

import dataclasses

from runs import small_config

from dga_jax.experiment.spec import Experiment, Figure, seeds

AXES = {
    "rate": {
        "low": {"optimizer.learning_rate": 1e-3},
        "high": {"optimizer.learning_rate": 3e-3},
    },
    "mixer": {
        "uniform": {"mixer.name": "static"},
        "dga": {"mixer.name": "dga"},
    },
    "seed": seeds(2),
}
EXPERIMENT = Experiment(
    question="Which is better?",
    axes=AXES,
    baseline={"mixer": "uniform"},
    figure=Figure("lines", x="rate", lines="mixer"),
)


def tiny(store, experiment=EXPERIMENT, **changes):
    """Four steps a run; `changes` are of the experiment."""
    config = small_config(
        store, train__steps=4, mixer__interval=2, eval__every=2, checkpoint__every=2
    )
    config.experiment = dataclasses.replace(experiment, **changes)
    return config


def line(mixer, seed, target, **changes):
    """A line of results as a run with these losses would have it."""
    found = {
        "name": f"{mixer}-{seed}",
        "axes": {"mixer": mixer, "seed": str(seed)},
        "run": f"{mixer}-{seed}",
        "config": {},
        "steps": 100,
        "final": {"target": target, "generic_natural": 2.0, "generic_uniform": 3.0},
        "best": {"target": [target, 100]},
        "train_loss": 1.0,
        "curves": {"target": [[0, 50, 100], [8.0, target + 1, target]]},
        "weights": {"first": {}, "last": {}},
        "effective_domains": 8.0,
        "most_epochs": 0.5,
        "movement": 0.1,
        "heldout_loss": 1.25,
        "skipped_updates": 0,
        "cost": {"train_tokens": 1e6, "flops": 1e9},
        "made": {"seconds": 1.0, "commit": "abc", "hardware": "a machine"},
    }
    return found | changes


def pairs(baseline, others):
    """An experiment of mixers and seeds, and its lines."""
    losses = {"uniform": baseline, **others}
    axes = {
        "mixer": {name: {} for name in losses},
        "seed": {str(i): {} for i in range(len(baseline))},
    }
    experiment = Experiment(
        "Which?", axes, {"mixer": "uniform"}, figure=Figure("forest")
    )
    lines = [
        line(name, seed, value)
        for name, values in losses.items()
        for seed, value in enumerate(values)
    ]
    return experiment, lines

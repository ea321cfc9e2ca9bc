"""Which rows a step of a run read: the sampler again, under the weights recorded.

The order of the data is a pure function of (seed, step, weights, cursors), so neither
parameters nor an accelerator are needed, and several thousand steps take seconds.
"""

import itertools
from typing import NamedTuple

import numpy as np

from dga_jax.data.sampler import Cumulative, Draw
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MixerState
from dga_jax.training import config as configs
from dga_jax.training.mixture import Mixture
from dga_jax.training.recorded import Recorded


class Weights(NamedTuple):
    """Log-weights from the step after `step` on, float32 [n]."""

    step: int
    log_weights: np.ndarray


def drawn(run: Recorded, store: Store, step: int) -> Draw:
    """The global batch of a train step.

    Args:
      run: whose; may be going on.
      store: its rows.
      step: from 1, or after the step that the run goes on from another after.

    Raises:
      UserError: the run has no such step, or did not record what it depends on.
    """
    first = run.first_step
    if not first < step <= run.config.train.steps:
        raise UserError(
            f"--step={step}: the steps of {run.directory} are {first + 1} to "
            f"{run.config.train.steps}"
        )
    history = _recorded(run, step)
    begun = bool(history) and history[0].step <= run.first_step
    mixture = _mixture(run, store, history[0] if begun else None)
    if not begun:
        history.insert(0, _initial(run, mixture))
    if mixture.moves:
        _check_complete(run, history, step)
    cursors, sampler = run.cursors(), mixture.sampler
    ends = [weights.step for weights in history[1:]] + [step]
    for weights, end in zip(history, ends, strict=True):
        state = MixerState(weights.log_weights, None)
        by_rows = Cumulative.of(mixture.domain_weights(state))
        by_tokens = mixture.cumulative(state)
        for now in range(weights.step + 1, end + 1):
            law = by_rows if now <= run.by_rows_until else by_tokens
            draw = sampler.draw(now, law, cursors, run.config.train.batch_size)
            sampler.advance(cursors, draw.domains)
    return draw


def _recorded(run: Recorded, step: int) -> list[Weights]:
    """Weights up to a step that the run recorded: at its start, after each update."""
    series = run.log_weights()
    if series is None:
        return []
    count = int(np.searchsorted(series.steps, step))
    values = np.asarray(series.values[:count])
    return list(map(Weights, series.steps[:count].tolist(), values))


def _mixture(run: Recorded, store: Store, first: Weights | None) -> Mixture:
    """Domains and sampler of a run; what its config names may be gone by now.

    Where weights scale the loss, rows are drawn by the initial ones all along: those of
    the config, if they still are what they were, for what is recorded is float32.

    Args:
      run: whose.
      store: its rows.
      first: recorded at its start; None where an older version made it.
    """
    if first is None:
        return run.mixture(store)
    shares = np.exp(first.log_weights.astype(np.float64))
    given = run.mixture(store, shares / shares.sum())
    if not given.scales_loss:
        return given
    try:
        exact = run.mixture(store)
    except UserError:
        exact = None
    if exact and exact.initial_digest == run.data["initial_weights"]:
        return exact
    if run.first_step:  # where it took weights over, those recorded are not the initial
        raise _gone(run)
    return given


def _initial(run: Recorded, mixture: Mixture) -> Weights:
    """Weights at the start of a run that did not record them: those of its config."""
    same = mixture.initial_digest == run.data["initial_weights"]
    if not same or run.first_step:
        raise _gone(run)
    return Weights(0, np.asarray(mixture.init().log_weights))


def _gone(run: Recorded) -> UserError:
    return UserError(
        f"{run.directory} did not record its first weights, and they are no longer "
        f"those of config.mixer.weights={run.config.mixer.weights}; bring back "
        "what that names"
    )


def _check_complete(run: Recorded, history: list[Weights], step: int) -> None:
    """Raises UserError if an update before the step is not in the history."""
    recorded = [weights.step for weights in history]
    for before, after in itertools.pairwise([*recorded, step]):
        update = configs.next_update(run.config, before)
        if update < after:
            raise UserError(
                f"--step={step}: the weights after the update of step {update} of "
                f"{run.directory} are not recorded: the run is not there yet, or an "
                f"older version made it; the rows of steps up to {update} can be shown"
            )

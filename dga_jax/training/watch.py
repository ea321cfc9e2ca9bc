"""What a run remembers to see that it goes wrong; `logs.signs` says when it does."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dga_jax.data.domains import entropy
from dga_jax.logs import signs
from dga_jax.logs.signs import Aligned, Losses, Moves, Sign, Targets
from dga_jax.mixing.mixers import MixerState
from dga_jax.training.mixture import Mixture
from dga_jax.training.probe import Measured

# Above, histories by domain would take too much of a checkpoint's JSON.
_MOST_WEIGHTS = 4096


class Watch:
    """Looks for signs of failure wherever weights move or the model is evaluated.

    All that it remembers is in the checkpoint: a run that goes on sees what one that
    was never stopped sees.

    Args:
      config: of the run.
      mixture: of the run.
      state: what the weights are now.
      kept: what `kept` was when the run was saved; None if nothing.
    """

    def __init__(
        self,
        config: ConfigDict,
        mixture: Mixture,
        state: MixerState,
        kept: Mapping[str, Any] | None = None,
    ):
        self._warn, self._mixture = config.warn, mixture
        self._weights = mixture.weights(state)
        self._first = float(np.exp(entropy(mixture.domain_weights(mixture.init()))))
        kept = kept or {}
        self._aligned = Aligned(*kept.get("aligned", ()))
        self._moves = Moves(*kept.get("moves", ()))
        self._before = Losses(*kept.get("before", ()))
        self._now = Losses(*kept.get("now", ()))
        self._targets = Targets(*kept.get("targets", ()))
        self._told = set(kept.get("told", ()))
        self._moved = False

    def kept(self) -> dict[str, Any]:
        """What to go on with, ready for JSON."""
        return {
            "aligned": self._aligned,
            "moves": self._moves,
            "before": self._before,
            "now": self._now,
            "targets": self._targets,
            "told": sorted(self._told),
        }

    def trained(self, loss: float) -> None:
        """The loss of a train step that counted."""
        self._now = self._now.add(loss)

    def moved(self, state: MixerState, measured: Measured) -> None:
        """An update of the weights, after the step whose loss comes next."""
        self._moved = True
        before, self._weights = self._weights, self._mixture.weights(state)
        if len(before) > _MOST_WEIGHTS:
            return
        self._moves = self._moves.add(before, self._weights)
        found = measured.signals
        # Where domains take turns, averages over updates would be of others each time.
        if found.alignments is not None and np.array_equal(
            measured.indices, np.flatnonzero(self._mixture.available)
        ):
            self._aligned = self._aligned.add(found.alignments, found.standard_errors)

    def signs(
        self, values: Mapping[str, float], state: MixerState, cursors: np.ndarray
    ) -> list[Sign]:
        """Those that are there, on a line of an update or an evaluation.

        Args:
          values: of the line.
          state: what the weights are.
          cursors: int64 [k], rows drawn of each domain.
        """
        held_out = values.get("eval/target/loss")
        if held_out is not None:
            steering = values.get("eval/target_steering/loss")
            self._targets = self._targets.add(held_out, steering)
        found = [
            signs.noise(self._aligned, "noise" in self._told),
            signs.unrelated(self._targets),
            signs.swings(self._moves, "swings" in self._told),
            signs.spike(self._before, self._now),
            signs.overfit(self._targets),
            *self._of_domains(state, cursors),
        ]
        if self._moved:
            self._before, self._now = self._now, self._now.after()
            self._moved = False
        return [sign for sign in found if sign]

    def metrics(self, found: list[Sign]) -> dict[str, float]:
        """`warning/NAME` of the signs found; what alignments and moves are judged by.

        `mixture/noise` is the share of noise in what alignments differ by, averaged
        over the last updates, `mixture/moved` the share of the weights that one moves.
        """
        values = {f"warning/{sign.name}": sign.figure for sign in found}
        if self._moves.count:
            values["mixture/moved"] = self._moves.each
        noise = self._aligned.noise
        return values | ({} if noise is None else {"mixture/noise": noise})

    def fresh(self, found: list[Sign]) -> list[Sign]:
        """Those that were not there when this was last asked."""
        told, self._told = self._told, {sign.name for sign in found}
        return [sign for sign in found if sign.name not in told]

    def _of_domains(self, state: MixerState, cursors: np.ndarray) -> list[Sign | None]:
        mixture = self._mixture
        weights, sampler = mixture.domain_weights(state), mixture.sampler
        gone = sampler.used_up(cursors)
        shares = np.nan_to_num(mixture.probability(state, cursors))
        epochs, names = sampler.epochs(cursors), mixture.domains.names
        least = self._warn.effective_domains if mixture.moves else 0.0
        return [
            signs.collapse(float(np.exp(entropy(weights))), self._first, least),
            signs.repeats(shares, epochs, self._warn.epochs, names),
            signs.used_up(float(weights[gone].sum())),
        ]

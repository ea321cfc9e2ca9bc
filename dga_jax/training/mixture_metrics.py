"""What the log says of the mixture: what was asked for, measured and drawn.

Every series here is over all names, in every record: NaN where nothing was measured.
"""

from typing import Any

import numpy as np

from dga_jax.data.domains import entropy
from dga_jax.logs.metrics import MetricsWriter
from dga_jax.logs.series import leading
from dga_jax.mixing.mixers import MixerState
from dga_jax.mixing.signals import COUNTED
from dga_jax.training.evaluate import Evaluation
from dga_jax.training.mixture import Mixture
from dga_jax.training.probe import Measured

LOG_WEIGHT = "mixture/log_weight"  # what moves, exact: by it rows are found again
# What is logged of the signals, and as what; counts are `mixture/drawn`.
_SERIES = {
    "alignments": "alignment",
    "standard_errors": "alignment_error",
    "losses": "probe_loss",
    "reference_losses": "reference_loss",
    "train_losses": "train_loss",
    "gradient_norms": "gradient_norm",
    "gradient_variances": "gradient_variance",
    "generic_alignments": "generic_alignment",
}
_COUNTED = {_SERIES[name] for name in COUNTED if name in _SERIES}
_NAMED = 3  # domains in the line about those that are used up


class MixtureMetrics:
    """Turns the mixture of a run into metrics.

    What is drawn is counted from one record of it to the next, also across a resume.

    Args:
      writer: of the run's metrics.
      mixture: of the run.
      cursors: int64 [k], rows drawn of each domain up to now.
      pending: what `pending` gave for these cursors; None where counting begins now.
    """

    def __init__(
        self,
        writer: MetricsWriter,
        mixture: Mixture,
        cursors: np.ndarray,
        pending: dict[str, list[int]] | None = None,
    ):
        self._writer, self._mixture = writer, mixture
        self._recorded = np.array(cursors)
        if pending:
            domains, rows = (np.array(pending[key], int) for key in ("domains", "rows"))
            self._recorded[domains] -= rows
        self._told = np.zeros(len(cursors), bool)

    def pending(self, cursors: np.ndarray) -> dict[str, list[int]]:
        """Rows drawn since the last record, by domain: ready for JSON."""
        rows = cursors - self._recorded
        domains = np.flatnonzero(rows)
        return {"domains": domains.tolist(), "rows": rows[domains].tolist()}

    def weights(self, step: int, state: MixerState) -> dict[str, float]:
        """`mixture/weight`, its entropy, and the basis' weights."""
        mixture = self._mixture
        weights = mixture.domain_weights(state)
        nats = entropy(weights)
        metrics = {
            "mixture/entropy": nats,
            "mixture/effective_domains": float(np.exp(nats)),
        }
        self._writer.keep_series(
            step, LOG_WEIGHT, np.asarray(state.log_weights), mixture.names
        )
        metrics |= self._by_domain(step, "mixture/weight", weights, state)
        if mixture.basis:
            metrics |= self._writer.write_series(
                step, "mixture/basis_weight", mixture.weights(state), mixture.names
            )
        return metrics

    def measured(
        self, step: int, state: MixerState, measured: Measured
    ) -> dict[str, float]:
        """What the mixer read, `mixture/alignment` and so on.

        NaN for what this update did not probe.
        """
        mixture = self._mixture
        metrics = {"mixture/skipped_updates": mixture.skipped_updates(state)}
        if np.isfinite(measured.target_norm) or measured.signals.alignments is not None:
            metrics["mixture/target_gradient_norm"] = measured.target_norm
        series = {
            name: getattr(measured.signals, signal) for signal, name in _SERIES.items()
        }
        by_target, losses = self._by_target(measured)
        metrics |= losses
        rank_by = mixture.weights(state)
        for name, values in (series | by_target).items():
            if values is None:
                continue
            spread = values
            if name not in _COUNTED:
                spread = np.full(len(mixture.names), np.nan, np.float32)
                spread[measured.indices] = values
            metrics |= self._writer.write_series(
                step, f"mixture/{name}", spread, mixture.names, rank_by=rank_by
            )
        return metrics

    def _by_target(
        self, measured: Measured
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Alignments with each target, series by name, and the losses of the targets.

        Names of targets follow the name of what was measured, where they have any.
        """
        alignments, losses = (
            measured.signals.target_alignments,
            measured.signals.target_losses,
        )
        if alignments is None or losses is None:
            return {}, {}
        ends = [f"/{name}" for name in self._mixture.target_names] or [""]
        return (
            {
                f"target_alignment{end}": values
                for end, values in zip(ends, alignments, strict=True)
            },
            {
                f"mixture/target_loss{end}": value.item()
                for end, value in zip(ends, losses, strict=True)
            },
        )

    def evaluated(
        self, step: int, state: MixerState, found: Evaluation, cursors: np.ndarray
    ) -> dict[str, float]:
        """`eval/domain/NAME/...`, with the other evaluations, and `data/epochs`."""
        weights = self._mixture.domain_weights(state)
        # Each domain of level 0 is equally many of a finer level in a row.
        rank_by = weights.reshape(len(found.names), -1).sum(axis=1)
        metrics = dict(found.metrics)
        for unit, values in (
            ("loss", found.losses),
            ("bits_per_byte", found.bits_per_byte),
        ):
            metrics |= self._writer.write_series(
                step, f"eval/domain/{{}}/{unit}", values, found.names, rank_by=rank_by
            )
        epochs = self._mixture.sampler.epochs(cursors)
        return metrics | self._by_domain(step, "data/epochs", epochs, state)

    def drawn(
        self, step: int, state: MixerState, cursors: np.ndarray
    ) -> dict[str, float]:
        """`mixture/drawn`: shares of the tokens drawn since it was last recorded.

        A row counts as many tokens as one of its domain predicts on average. NaN before
        the first row. Beside it `mixture/drawn_tokens`, how many tokens these were.
        Where `data.max_epochs` bounds epochs also `mixture/probability`, with which a
        token comes from each domain from now on, 0 of those that are used up, and
        `mixture/used_up`, what the weights ask for of these.
        """
        mixture = self._mixture
        rows, self._recorded = cursors - self._recorded, np.array(cursors)
        tokens = rows * mixture.domains.tokens_per_row
        total = tokens.sum()
        shares = tokens / total if total else np.full(len(tokens), np.nan)
        metrics = self._by_domain(step, "mixture/drawn", shares, state)
        metrics["mixture/drawn_tokens"] = float(total)
        if mixture.sampler.max_epochs:
            used_up = mixture.sampler.used_up(cursors)
            weights = mixture.domain_weights(state)
            metrics["mixture/used_up"] = float(weights[used_up].sum())
            left = mixture.probability(state, cursors)
            metrics |= self._by_domain(step, "mixture/probability", left, state)
        return metrics

    def leading(
        self, state: MixerState, cursors: np.ndarray, count: int
    ) -> list[tuple[str, float, bool]]:
        """Name, weight, and whether it is used up, of what has the most weight."""
        mixture = self._mixture
        weights = mixture.weights(state)
        used_up = np.zeros(len(weights), bool)
        if not mixture.basis:
            used_up = mixture.sampler.used_up(cursors)
        return [
            (mixture.names[i], float(weights[i]), bool(used_up[i]))
            for i in leading(weights, count)
        ]

    def newly_used_up(self, state: MixerState, cursors: np.ndarray) -> str | None:
        """A line about domains used up since the last call, or None without any."""
        mixture = self._mixture
        if not mixture.sampler.max_epochs:
            return None
        used_up = mixture.sampler.used_up(cursors)
        fresh = np.flatnonzero(used_up & ~self._told)
        self._told |= used_up
        weights = mixture.domain_weights(state)
        fresh = fresh[weights[fresh] > 0]
        if not len(fresh):
            return None
        named = ", ".join(
            f"{mixture.domains.names[i]} (weight {weights[i]:.3g})"
            for i in fresh[leading(weights[fresh], _NAMED)]
        )
        if len(fresh) > _NAMED:
            named += f" and {len(fresh) - _NAMED:,} more"
        share = weights[used_up].sum()
        limit = mixture.sampler.max_epochs
        return (
            f"used up (data.max_epochs={limit}): {named}; from now on the others are "
            f"drawn for {share:.3g} of the mixture. To draw what the weights ask for, "
            "begin a run with a larger data.max_epochs (0: no limit) or more text"
        )

    def _by_domain(
        self, step: int, name: str, values: np.ndarray, state: MixerState
    ) -> dict[str, Any]:
        return self._writer.write_series(
            step,
            name,
            values,
            self._mixture.domains.names,
            rank_by=self._mixture.domain_weights(state),
        )

"""What a run spends, by what it is spent on: tokens through a model, and FLOPs.

Arithmetic from rows and model, not a measurement. A row is `train.seq_len` tokens, all
of which are computed whatever of them is predicted, and counts as often as it goes
through a model. A gradient of it costs what `perf.model_flops_per_token` says, 6N and
the attention, per token; a forward pass a third of that; a Jacobian-vector product
three forward passes, as a gradient does. What rematerialisation computes again, what
only fills a mesh up and the optimizer do not count.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from ml_collections import ConfigDict

from dga_jax.training import config as configs

if TYPE_CHECKING:
    from dga_jax.training.setup import Run

KINDS = ("train", "probe", "target", "reference", "eval")
# `Steps.gradients` takes one for the moments, one for the sum, one along the sum.
_GRADIENTS_OF_MOMENTS = 3


class Passes(NamedTuple):
    """Rows through a model: with a derivative, and without."""

    gradients: int = 0
    forwards: int = 0

    def times(self, count: int) -> "Passes":
        """So many of them."""
        return Passes(self.gradients * count, self.forwards * count)

    def flops(self, per_token: float) -> float:
        """For each token of a row, of a model whose gradient costs `per_token`."""
        return per_token * (self.gradients + self.forwards / 3)


def of_update(
    reads: Collection[str],
    *,
    probe_rows: int,
    target_rows: int,
    targets: int = 1,
) -> dict[str, Passes]:
    """What one update of the weights passes, by kind.

    Args:
      reads: names of the signals that the mixer reads.
      probe_rows: of all domains together.
      target_rows: of one target, or of all where the mixer does not tell them apart.
      targets: how many there are.
    """
    reads = set(reads)
    along = "alignments" in reads
    gradients, target_gradients, target_forwards = int(along), int(along), 0
    if reads & {"target_alignments", "target_losses"}:
        gradients += targets
        target_gradients += targets
        target_forwards += targets
    if reads & {"gradient_norms", "gradient_variances", "generic_alignments"}:
        gradients += _GRADIENTS_OF_MOMENTS
    forwards = "losses" in reads and not along  # alignments bring them along
    return {
        "probe": Passes(gradients * probe_rows, forwards * probe_rows),
        "target": Passes(target_gradients * target_rows, target_forwards * target_rows),
        "reference": Passes(0, ("reference_losses" in reads) * probe_rows),
    }


class Costs:
    """Of a run up to now; a function of its config, the step and `evaluated`.

    Of a run that goes on from another, its own steps count. Of a run that
    `mixer.reference_run` names, the training counts too: it is done for the mixer.

    Args:
      run: whose.
      eval_rows: that an evaluation takes through the model.

    Attributes:
      evaluated: rows that all evaluations took up to now.
    """

    def __init__(self, run: "Run", eval_rows: int):
        config, mixture = run.config, run.mixture
        self._config, self._eval_rows = config, eval_rows
        self._first = configs.first_step(config)
        probed = len(mixture.names) if mixture.basis else mixture.num_probes
        self._update = of_update(
            mixture.mixer.reads,
            probe_rows=probed * config.mixer.probe_rows,
            target_rows=config.mixer.target_rows,
            targets=run.store.targets.count,
        )
        self._flops_per_token = configs.flops_per_token(config)
        self._reference = _reference(config) if run.reference else None
        self.evaluated = run.extra.get("evaluated_rows")
        if self.evaluated is None:  # nobody counted: as many as this config has
            done, every = run.step - self._first, config.eval.every
            evaluations = (1 + (done // every if every else 0)) if done else 0
            self.evaluated = evaluations * eval_rows

    def evaluation(self, step: int) -> dict[str, float]:
        """Counts one after a train step; returns what `at` does."""
        self.evaluated += self._eval_rows
        return self.at(step)

    def at(self, step: int) -> dict[str, float]:
        """What was spent up to a train step.

        Returns:
          `cost/KIND_tokens` and `cost/KIND_flops` for each of `KINDS`, and the sum of
          the FLOPs, `cost/flops`.
        """
        config = self._config
        first, last = (
            configs.updates_before(config, x + 1) for x in (self._first, step)
        )
        passes = {kind: of.times(last - first) for kind, of in self._update.items()}
        passes["train"] = Passes((step - self._first) * config.train.batch_size)
        passes["eval"] = Passes(0, self.evaluated)
        values, total = {}, 0.0
        for kind in KINDS:
            per_token, tokens, flops = self._flops_per_token, 0, 0.0
            if kind == "reference" and self._reference is not None:
                per_token, tokens = self._reference
                flops = per_token * tokens
            tokens += sum(passes[kind]) * config.train.seq_len
            flops += passes[kind].flops(per_token) * config.train.seq_len
            values[f"cost/{kind}_tokens"] = tokens
            values[f"cost/{kind}_flops"] = flops
            total += flops
        return values | {"cost/flops": total}


def _reference(config: ConfigDict) -> tuple[float, int]:
    """Of the run that `mixer.reference_run` names: FLOPs a token, tokens trained on."""
    from dga_jax.training import recorded  # few runs have one
    from dga_jax.training.start_from import run_and_step

    path, step = run_and_step(config.mixer.reference_run)
    before = recorded.read(path).config
    steps = step - configs.first_step(before)
    tokens = steps * before.train.batch_size * before.train.seq_len
    return configs.flops_per_token(before), tokens

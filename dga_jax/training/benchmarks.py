"""Benchmarks of a model, while it is trained or afterwards; see `harness`."""

from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax.errors import one_line
from dga_jax.harness.options import Options
from dga_jax.harness.scoring import Place
from dga_jax.model import kernels
from dga_jax.model.transformer import ModelConfig
from dga_jax.tokenizer import Tokenizer
from dga_jax.training import config as configs
from dga_jax.training.suited import suited_model

_PREFIX = "eval/lm_eval/"
_MOST_TOKENS = 16_384  # that a device computes at a time


def options(config: ConfigDict) -> Options:
    """What `eval.lm_eval` asks for."""
    asked = config.eval.lm_eval
    return Options(
        tuple(filter(None, asked.tasks.split(","))),
        data=asked.data,
        fewshot=asked.fewshot,
        num_fewshot=None if asked.num_fewshot < 0 else asked.num_fewshot,
        limit=asked.limit,
        include=asked.include,
        prefix="config.eval.lm_eval.",
    )


def place(config: ConfigDict, model: ModelConfig, mesh: Mesh) -> Place:
    """Where a run's model is evaluated: in batches no larger than those of training.

    Args:
      config: of the run.
      model: the architecture.
      mesh: that its parameters lie on.
    """
    train = config.train
    # A kernel that was named may not run on the devices at hand.
    attention = "xla" if config.model.attention == "xla" else kernels.AUTO
    tokens = train.batch_size // train.microbatches * train.seq_len
    return Place(
        suited_model(model, mesh),
        mesh,
        config.model.max_positions or train.seq_len,
        min(tokens, _MOST_TOKENS * mesh.size),
        attention,
    )


class Benchmarks:
    """What `eval.lm_eval` asks for, of a run that is going on.

    Args:
      config: of the run.
      mesh: of the run.
      tokenizer: of its store.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, tokenizer: Tokenizer):
        self._config, self._mesh, self._tokenizer = config, mesh, tokenizer
        self._harness = None

    def __call__(self, params: Any, step: int) -> dict[str, float]:
        """Metrics to log: `eval/lm_eval/TASK/METRIC`; whatever fails stops nothing."""
        try:
            if self._harness is None:
                self._harness = self._open()
            found = self._harness(params).metrics()
        except Exception as error:  # of lm-eval, of a task, of memory
            if jax.process_index() == 0:
                print(
                    f"eval.lm_eval failed at step {step}, and training goes on:"
                    f" {one_line(error)}",
                    flush=True,
                )
            return {f"{_PREFIX}failed": 1.0}
        return {_PREFIX + name: value for name, value in found.items()}

    def _open(self) -> Any:
        from dga_jax.harness.evaluate import Harness  # which loads lm-eval

        model = configs.model_config(self._config)
        where = place(self._config, model, self._mesh)
        return Harness(where, self._tokenizer, options(self._config))

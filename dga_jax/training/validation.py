"""What makes a config invalid, whatever the store."""

import math

from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.mixing.alignment import ESTIMATORS
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training.config import get
from dga_jax.training.optimizer import SCHEDULES

_POSITIVE = [
    "model.vocab_size",
    "model.num_layers",
    "model.d_model",
    "model.num_heads",
    "model.rope_theta",
    "model.norm_eps",
    "train.steps",
    "train.batch_size",
    "train.seq_len",
    "train.microbatches",
    "train.loss_chunk",
    "optimizer.learning_rate",
    "optimizer.eps",
    "mixer.interval",
    "mixer.probe_rows",
    "mixer.target_rows",
    "data.threads",
    "eval.rows",
    "checkpoint.keep",
    "log.every",
    "log.console",
    "log.profile_steps",
]
_NOT_NEGATIVE = [
    "seed",
    "model.num_kv_heads",
    "model.d_ff",
    "train.z_loss",
    "train.skip_nonfinite",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "mixer.start",
    "mixer.eta",
    "mixer.probe_domains",
    "mixer.chunk",
    "mixer.floor",
    "mixer.smoothing",
    "data.level",
    "data.tokens_per_domain",
    "data.max_epochs",
    "eval.every",
    "eval.target_rows",
    "checkpoint.every",
    "log.profile_step",
]
_FRACTION = ["optimizer.decay_fraction", "optimizer.final_fraction"]
_BELOW_ONE = ["optimizer.b1", "optimizer.b2"]
_CHOICES = {
    "model.dtype": ("bfloat16", "float32"),
    "model.attention": ("xla", "cudnn"),
    "optimizer.schedule": SCHEDULES,
    "mixer.name": tuple(MIXERS),
    "mixer.estimator": ESTIMATORS,
    "start.what": ("params", "all"),
}


def validate(config: ConfigDict) -> None:
    """Checks every field that can be checked without a store or a mesh.

    Raises:
      UserError: naming the field, its value and what is allowed.
    """
    checks = [
        (_POSITIVE, lambda x: x > 0, "must be above 0"),
        (_NOT_NEGATIVE, lambda x: x >= 0, "must not be negative"),
        (_FRACTION, lambda x: 0 <= x <= 1, "must lie in [0, 1]"),
        (_BELOW_ONE, lambda x: 0 <= x < 1, "must lie in [0, 1)"),
        (("mixer.beta",), lambda x: 0 < x <= 1, "must lie in (0, 1]"),
        (("mixer.beta_end",), lambda x: x == -1 or 0 < x <= 1, "must be in (0, 1]"),
        (("mixer.eta_end",), lambda x: x == -1 or x >= 0, "must not be negative"),
        (("optimizer.warmup_steps",), lambda x: x >= -1, "must be -1 (auto) or more"),
        (("data.tokens_level",), lambda x: x >= -1, "must be -1 or a level"),
    ]
    for names, holds, rule in checks:
        for name in names:
            value = get(config, name)
            if not (math.isfinite(value) and holds(value)):
                raise UserError(f"config.{name}={value}: {rule}")
    for name, choices in _CHOICES.items():
        value = get(config, name)
        if value not in choices:
            raise UserError(f"config.{name}={value!r}: choose {' or '.join(choices)}")
    _validate_relations(config)


def _validate_relations(config):
    model, train = config.model, config.train
    kv_heads = model.num_kv_heads or model.num_heads
    if model.d_model % model.num_heads or (model.d_model // model.num_heads) % 2:
        raise UserError(
            f"config.model.d_model={model.d_model}: must be an even multiple of "
            f"model.num_heads={model.num_heads}"
        )
    if model.num_heads % kv_heads:
        raise UserError(
            f"config.model.num_kv_heads={kv_heads}: must divide "
            f"model.num_heads={model.num_heads}"
        )
    if model.document_mask and model.attention == "cudnn":
        raise UserError(
            "config.model.document_mask: cannot be had with model.attention=cudnn; use "
            "model.attention=xla"
        )
    if train.batch_size % train.microbatches:
        raise UserError(
            f"config.train.batch_size={train.batch_size}: must be a multiple of "
            f"train.microbatches={train.microbatches}"
        )
    if config.mixer.basis and config.mixer.name == "importance":
        raise UserError(
            "config.mixer.basis: importance has constant weights over the domains; use"
            " mixer.name=dga, or leave the basis out"
        )
    if config.mixer.basis and config.mixer.probe_domains:
        raise UserError(
            "config.mixer.probe_domains: with mixer.basis all its distributions are "
            "probed; leave it at 0"
        )


def check_batch(config: ConfigDict, shards: int) -> None:
    """Raises UserError unless every microbatch divides into `shards` equal parts."""
    per_microbatch = config.train.batch_size // config.train.microbatches
    if per_microbatch % shards:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} in "
            f"{config.train.microbatches} microbatch(es) is {per_microbatch} rows, not "
            f"a multiple of mesh.data x mesh.fsdp = {shards}"
        )

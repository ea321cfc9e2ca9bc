"""Every field of a config, declared once: default, bound, what it touches, meaning.

The config, its validation, what may change between two starts of a run, `--help` and
docs/config.md follow. Those of `mixer` are in `mixer_fields`; a mixer's own options are
declared by its function, see `mixing`.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dga_jax.bounds import Above, AtLeast, OneOf, Within
from dga_jax.mixing.mixers import MIXERS
from dga_jax.model.kernels import AUTO, KERNELS
from dga_jax.model.loss import LOGITS_BUDGET
from dga_jax.model.transformer import REMAT
from dga_jax.training.field import Field as Field
from dga_jax.training.field import Touches as Touches
from dga_jax.training.field import as_flag as as_flag
from dga_jax.training.mixer_fields import MIXER
from dga_jax.training.optimizer import SCHEDULES

_NOTHING, _ROUNDING = Touches.NOTHING, Touches.ROUNDING
_VALUES, _ALL = Touches.VALUES, Touches.ALL
_NOT_NEGATIVE, _POSITIVE = AtLeast(0), Above(0)
_SEED = Within(f"[0, {2**32})")  # of a larger one JAX takes the low 32 bits

_FIELDS: dict[str, Field] = {
    "seed": Field(0, _ALL, "of parameters and of the order of rows", _SEED),
    "model.vocab_size": Field(
        50_304, _ALL, "tokens in the vocabulary; the store's takes its place", _POSITIVE
    ),
    "model.num_layers": Field(12, _ALL, "depth", _POSITIVE),
    "model.d_model": Field(768, _ALL, "width", _POSITIVE),
    "model.num_heads": Field(12, _ALL, "attention heads", _POSITIVE),
    "model.num_kv_heads": Field(
        0, _ALL, "key and value heads; 0: as many as num_heads", _NOT_NEGATIVE
    ),
    "model.d_ff": Field(
        0,
        _ALL,
        "feed-forward width; 0: 8/3 of d_model, rounded up to a multiple of 128",
        _NOT_NEGATIVE,
    ),
    "model.from": Field(
        "",
        _ALL,
        "a Hugging Face directory that the run begins with: its weights, and in place "
        "of the fields of this group its architecture",
    ),
    "model.head_dim": Field(
        0, _ALL, "width of a head; 0: d_model / num_heads", _NOT_NEGATIVE
    ),
    "model.qkv_bias": Field(False, _ALL, "biases on queries, keys and values"),
    "model.qk_norm": Field(False, _ALL, "RMSNorm of each head's queries and keys"),
    "model.tied_embeddings": Field(
        True, _ALL, "the output projection is the embedding, transposed"
    ),
    "model.rope_theta": Field(
        10_000.0, _ALL, "base of the rotary frequencies", _POSITIVE
    ),
    "model.rope_factor": Field(
        1.0,
        _ALL,
        "by which Llama 3.1 divides low rotary frequencies; 1: as they are",
        AtLeast(1),
    ),
    "model.rope_low_frequency": Field(
        1.0, _ALL, "periods in rope_length, below which they are divided", _POSITIVE
    ),
    "model.rope_high_frequency": Field(
        4.0, _ALL, "periods in rope_length, above which they stay", _POSITIVE
    ),
    "model.rope_length": Field(
        8192, _ALL, "positions before frequencies were divided", _POSITIVE
    ),
    "model.max_positions": Field(
        0, _NOTHING, "that an export promises; 0: train.seq_len", _NOT_NEGATIVE
    ),
    "model.norm_eps": Field(
        1e-5, _ALL, "added to the mean square in RMSNorm", _POSITIVE
    ),
    "model.dtype": Field(
        "bfloat16", _ALL, "of activations", OneOf(("bfloat16", "float32"))
    ),
    "model.remat": Field(
        "full",
        _ROUNDING,
        "what of a layer the backward pass computes again, which saves memory: nothing,"
        " all but products with kernels, all",
        OneOf(REMAT),
    ),
    "model.attention": Field(
        AUTO,
        _ROUNDING,
        "kernel of training and evaluation; auto: splash on TPU and cudnn on NVIDIA"
        " where they can run, else xla; alignments take xla",
        OneOf((AUTO, *KERNELS)),
    ),
    "model.document_mask": Field(
        False, _ALL, "attend within documents, not across a row"
    ),
    "model.end_of_text": Field(
        -1,
        _ALL,
        "token that ends a document; the store's takes its place under document_mask",
    ),
    "train.steps": Field(10_000, _VALUES, "train steps in all", _POSITIVE),
    "train.batch_size": Field(512, _ALL, "rows a step", _POSITIVE),
    "train.seq_len": Field(
        1024, _ALL, "tokens a row; the store's takes its place", _POSITIVE
    ),
    "train.microbatches": Field(
        1, _ROUNDING, "parts of a batch, one after the other", _POSITIVE
    ),
    "train.z_loss": Field(
        0.0, _ALL, "weight of the squared log-partition in the loss", _NOT_NEGATIVE
    ),
    "train.loss_chunk": Field(
        0,
        _ROUNDING,
        "positions whose logits are held at a time; 0: as many as fit into "
        f"{LOGITS_BUDGET >> 20} MiB a device",
        _NOT_NEGATIVE,
    ),
    "train.skip_nonfinite": Field(
        0,
        _NOTHING,
        "steps that may be skipped for a gradient that is not finite; 0: none",
        _NOT_NEGATIVE,
    ),
    "optimizer.learning_rate": Field(6e-4, _VALUES, "the peak", _POSITIVE),
    "optimizer.schedule": Field(
        "cosine", _VALUES, "of the learning rate after the warm-up", OneOf(SCHEDULES)
    ),
    "optimizer.warmup_steps": Field(
        -1,
        _VALUES,
        "linear from 0; -1: a tenth of the steps, at most 2,000",
        AtLeast(-1),
    ),
    "optimizer.decay_fraction": Field(
        0.2, _VALUES, "of the steps, in which wsd decays", Within("[0, 1]")
    ),
    "optimizer.final_fraction": Field(
        0.1, _VALUES, "of the peak, where cosine and wsd end", Within("[0, 1]")
    ),
    "optimizer.b1": Field(0.9, _ALL, "of AdamW, first moments", Within("[0, 1)")),
    "optimizer.b2": Field(0.95, _ALL, "of AdamW, second moments", Within("[0, 1)")),
    "optimizer.eps": Field(1e-8, _ALL, "of AdamW", _POSITIVE),
    "optimizer.weight_decay": Field(0.1, _ALL, "of AdamW", _NOT_NEGATIVE),
    "optimizer.clip_norm": Field(
        1.0, _ALL, "bound on the gradient's norm; 0: none", _NOT_NEGATIVE
    ),
    **MIXER,
    "data.store": Field(
        "", _NOTHING, "its path, or a URL: it is copied then; its content is compared"
    ),
    "data.cache": Field(
        "",
        _NOTHING,
        'where copies go; "": DGA_JAX_CACHE, or the user\'s cache directory',
    ),
    "data.level": Field(
        0, _ALL, "of clusters that are the domains; 0: the coarsest", _NOT_NEGATIVE
    ),
    "data.tokens_per_domain": Field(
        0, _ALL, "use only so many tokens of each; 0: no limit", _NOT_NEGATIVE
    ),
    "data.tokens_level": Field(
        -1,
        _ALL,
        "whose domains are so limited; -1: those of data.level",
        AtLeast(-1),
    ),
    "data.max_epochs": Field(
        0, _ALL, "how often a row may be drawn; 0: no limit", Within(f"[0, {2**31})")
    ),
    "data.systematic": Field(
        False,
        _ALL,
        "each batch has as many rows of a domain as its weight says, within one row",
    ),
    "data.answers_after": Field(
        "",
        _ALL,
        "only what follows the last of this text in a document is predicted, and the"
        ' rest is read; "": all is predicted',
    ),
    "data.threads": Field(4, _NOTHING, "that read ahead", _POSITIVE),
    "eval.every": Field(
        500,
        _NOTHING,
        "steps between evaluations; 0: before the first and after the last step only",
        _NOT_NEGATIVE,
    ),
    "eval.rows": Field(16, _NOTHING, "held-out rows of each domain", _POSITIVE),
    "eval.target_rows": Field(
        256, _NOTHING, "of each target's held-out part; 0: all", _NOT_NEGATIVE
    ),
    "eval.lm_eval.every": Field(
        0,
        _NOTHING,
        "steps between benchmarks, before the first and after the last too; 0: none",
        _NOT_NEGATIVE,
    ),
    "eval.lm_eval.tasks": Field(
        "mmlu_cloze",
        _NOTHING,
        "with commas: mmlu and mmlu_cloze are of eval.lm_eval.data, others lm-eval's",
    ),
    "eval.lm_eval.data": Field(
        "", _NOTHING, "JSON lines with question, choices, answer and subject"
    ),
    "eval.lm_eval.fewshot": Field(
        "", _NOTHING, "the same, examples shown before the questions"
    ),
    "eval.lm_eval.num_fewshot": Field(
        -1,
        _NOTHING,
        "how many; -1: what a task of lm-eval says, else none",
        AtLeast(-1),
    ),
    "eval.lm_eval.limit": Field(
        0, _NOTHING, "questions of each task, or subject; 0: all", _NOT_NEGATIVE
    ),
    "eval.lm_eval.include": Field(
        "", _NOTHING, "a directory of tasks of yours, in YAML"
    ),
    "checkpoint.every": Field(
        500, _NOTHING, "steps between checkpoints; 0: at the end only", _NOT_NEGATIVE
    ),
    "checkpoint.keep": Field(3, _NOTHING, "how many of the newest stay", _POSITIVE),
    "mesh.data": Field(
        -1, _ROUNDING, "devices that share a batch; -1: all that are left"
    ),
    "mesh.fsdp": Field(
        -1,
        _ROUNDING,
        "that also share the parameters; -1: none where one can hold them, else all"
        " that divide d_model; or, with mesh.data given, all that are left",
    ),
    "mesh.tensor": Field(1, _ROUNDING, "that share each layer"),
    "mesh.slices": Field(
        -1,
        _ROUNDING,
        "networks of devices that only data lies across; -1: the TPU slices there are",
    ),
    "log.every": Field(10, _NOTHING, "steps between lines of metrics.jsonl", _POSITIVE),
    "log.console": Field(10, _NOTHING, "steps between lines on the console", _POSITIVE),
    "log.trackers": Field(
        "tensorboard",
        _NOTHING,
        "where metrics go besides metrics.jsonl, with commas between: tensorboard,"
        " wandb, mlflow, trackio",
    ),
    "log.profile_step": Field(
        0, _NOTHING, "after which a profile is taken; 0: none", _NOT_NEGATIVE
    ),
    "log.profile_steps": Field(5, _NOTHING, "in the profile", _POSITIVE),
    "warn.epochs": Field(
        16.0,
        _NOTHING,
        "a domain read more often than this counts as repeated too often",
        _POSITIVE,
    ),
    "warn.effective_domains": Field(
        1.5,
        _NOTHING,
        "weights that leave fewer than this count as collapsed; 0: none do",
        _NOT_NEGATIVE,
    ),
    "start.from": Field(
        "",
        _ALL,
        "a run that this one goes on from: its workdir, @STEP or the newest checkpoint",
    ),
    "start.what": Field(
        "params",
        _ALL,
        "what is taken: all are parameters, optimizer, weights, cursors and step",
        OneOf(("params", "all")),
    ),
    "compile_cache": Field(
        "",
        _NOTHING,
        "where compiled programs are kept for the next start; off: nowhere;"
        ' "": JAX_COMPILATION_CACHE_DIR, or with the copies of data.cache',
    ),
    "deterministic": Field(
        False, _ROUNDING, "on GPU: XLA flags for bit-equal runs, slower"
    ),
}


# What values of an older version are called now, by how they were written.
_FORMER = {"model.remat": {"true": "full", "false": "none"}}


def current(name: str, value: Any) -> Any:
    """A field's value as this version writes it, given as any version writes it."""
    return _FORMER.get(name, {}).get(str(value).lower(), value)


def fields() -> dict[str, Field]:
    """All fields by their dotted names, and the options that mixers declare.

    Raises:
      TypeError: a mixer has the name of a field.
    """
    own = {}
    for name, recipe in MIXERS.items():
        if f"mixer.{name}" in _FIELDS:
            raise TypeError(f"mixer {name!r} has the name of a config field")
        for option, (default, rule, about) in recipe.options.items():
            own[f"mixer.{name}.{option}"] = Field(default, Touches.OWN, about, rule)
    return _FIELDS | own


def listing() -> str:
    """One line a field, for `--help`."""
    lines = []
    for name, field in fields().items():
        rule = f" ({field.rule})" if field.rule else ""
        lines.append(f"{name}={field.shown}: {field.about}{rule}")
    return "\n".join(lines)


def default_config() -> ConfigDict:
    """All fields, with the values that a config file may leave as they are."""
    config = ConfigDict()
    for name, field in fields().items():
        *groups, leaf = name.split(".")
        group = config
        for key in groups:
            if key not in group:
                group[key] = ConfigDict()
            group = group[key]
        group[leaf] = field.default
    config.explicit = ()  # fields set by the config's argument; see apply_argument
    return config


def get(config: ConfigDict, name: str) -> Any:
    """The value of a field by its dotted name."""
    for key in name.split("."):
        config = config[key]
    return config


def flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    found = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def changed(config: ConfigDict) -> dict[str, Any]:
    """Values of the fields that are not at their defaults, by dotted name."""
    values = {name: (get(config, name), field) for name, field in fields().items()}
    return {n: value for n, (value, field) in values.items() if value != field.default}


def decides(name: str) -> bool:
    """Whether a field has a say in a run's losses, not just how or where it runs.

    Evaluation has: of other rows the losses are others. So has a field that is not
    known, as of another version.
    """
    field = fields().get(name)
    how = (Touches.NOTHING, Touches.ROUNDING)
    return field is None or name.startswith("eval.") or field.touches not in how

"""The defaults of a run, and what follows from a config."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections
import optax
from jax.sharding import Mesh

from dga_jax.errors import UserError
from dga_jax.mixing.mixers import MixerOptions
from dga_jax.model.transformer import ModelConfig
from dga_jax.sharding import batch_shards
from dga_jax.training.optimizer import OptimizerConfig
from dga_jax.training.steps import StepOptions

ConfigDict = ml_collections.ConfigDict


def default_config() -> ConfigDict:
    """All fields, with the values that a config file may leave as they are."""
    config = ConfigDict()
    config.seed = 0
    config.model = ConfigDict(
        {
            "vocab_size": 50_304,  # the store's takes its place
            "num_layers": 12,
            "d_model": 768,
            "num_heads": 12,
            "num_kv_heads": 0,  # 0: as many as num_heads
            "d_ff": 0,  # 0: 8/3 of d_model, rounded up to a multiple of 128
            "tied_embeddings": True,
            "rope_theta": 10_000.0,
            "norm_eps": 1e-5,
            "dtype": "bfloat16",
            "remat": True,
            "attention": "xla",
            "document_mask": False,  # attend within documents, not across a row
            "end_of_text": -1,  # the store's takes its place under document_mask
        }
    )
    config.train = ConfigDict(
        {
            "steps": 10_000,
            "batch_size": 512,  # rows
            "seq_len": 1024,  # the store's takes its place
            "microbatches": 1,
            "z_loss": 0.0,
            "loss_chunk": 128,  # positions whose logits are held at a time
            "skip_nonfinite": 0,  # steps that may be skipped for a NaN; 0: none
        }
    )
    config.optimizer = ConfigDict(
        {
            "learning_rate": 6e-4,
            "schedule": "cosine",
            "warmup_steps": -1,  # -1: a tenth of the steps, at most 2,000
            "decay_fraction": 0.2,  # of the steps, for wsd
            "final_fraction": 0.1,  # of the peak, where cosine and wsd end
            "b1": 0.9,
            "b2": 0.95,
            "eps": 1e-8,
            "weight_decay": 0.1,
            "clip_norm": 1.0,  # 0: no clipping
        }
    )
    config.mixer = ConfigDict(
        {
            "name": "dga",
            # Initial: uniform, natural, importance, NAME=W,NAME=W or FILE.json; "" is
            # what the mixer starts with.
            "weights": "",
            "interval": 100,  # T_r, in train steps
            "start": 0,  # no update before this step
            "eta": 5.0,
            "eta_end": -1.0,  # -1: eta is constant; else linear to this at the end
            "beta": 0.1,
            "beta_end": -1.0,
            "probe_rows": 8,  # b
            "target_rows": 64,
            "probe_domains": 0,  # of k, probed in one update; 0: all
            "estimator": "forward",
            "chunk": 0,  # domains at a time; 0: as many as fit a microbatch
            "normalise": True,
            "precondition": False,
            "floor": 0.0,
            "basis": "",  # name of one stored with the store, levelL, or file with P
            "reference": "target",  # importance: or BASIS/NAME, of a stored basis
            "smoothing": 1.0,  # documents of the natural distribution in a histogram
        }
    )
    config.data = ConfigDict(
        {
            "store": "",  # its path, or a URL: it is copied then
            "cache": "",  # where to; "": DGA_JAX_CACHE, or the user's cache directory
            "level": 0,
            "tokens_per_domain": 0,  # 0: no limit
            "tokens_level": -1,  # whose domains are limited; -1: those of data.level
            "max_epochs": 0,  # 0: no limit
            "threads": 4,
        }
    )
    config.eval = ConfigDict(
        {
            "every": 500,  # 0: before the first and after the last step only
            "rows": 16,  # held-out rows of each domain
            "target_rows": 256,  # of the target's held-out part; 0: all
        }
    )
    # Steps between checkpoints (0: at the end only), and how many of them stay.
    config.checkpoint = ConfigDict({"every": 500, "keep": 3})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    config.log = ConfigDict(
        {
            "every": 10,  # steps between lines of metrics.jsonl
            "console": 10,  # steps between lines on the console
            "profile_step": 0,  # 0: no profile
            "profile_steps": 5,
        }
    )
    # Another run that this one goes on from: its workdir, @STEP or the newest
    # checkpoint; and what is taken: params, or all (optimizer, weights, cursors, step).
    config.start = ConfigDict({"from": "", "what": "params"})
    config.deterministic = False  # on GPU: XLA flags for bit-equal runs, slower
    config.explicit = ()  # fields set by the config's argument; see apply_argument
    return config


def debug(config: ConfigDict) -> None:
    """Shrinks a config until it runs anywhere in a minute; the `:debug` argument."""
    config.model.update(num_layers=2, d_model=64, num_heads=4, dtype="float32")
    config.train.update(steps=20, batch_size=8, microbatches=1)
    config.mixer.update(interval=5, probe_rows=2, target_rows=8)
    config.eval.update(every=10, rows=2, target_rows=8)
    config.checkpoint.update(every=10)
    config.log.update(every=1, console=5)


def apply_argument(config: ConfigDict, argument: str | None) -> ConfigDict:
    """Applies what follows the colon in `--config=configs/NAME.py:debug,key=value`.

    Raises:
      UserError: a word other than `debug`, a field that does not exist, or a value of
        another type.
    """
    explicit = []
    for part in filter(None, (argument or "").split(",")):
        name, equals, value = part.partition("=")
        if part == "debug":
            debug(config)
        elif not equals:
            raise UserError(
                f"config argument {part!r}: expected debug or FIELD=VALUE, as in "
                "configs/125m.py:debug,train.steps=100"
            )
        else:
            _set(config, name, value)
            explicit.append(name)
    config.explicit = tuple(explicit)
    return config


def _set(config, name, text):
    path, _, leaf = name.rpartition(".")
    group = config
    for key in filter(None, path.split(".")):
        group = group.get(key) if isinstance(group, ConfigDict) else None
    found = isinstance(group, ConfigDict) and leaf in group
    if not found or isinstance(group[leaf], ConfigDict):
        raise UserError(f"config argument {name}={text}: no such config field")
    kind = type(group[leaf])
    try:
        if kind is bool:
            value = {"true": True, "false": False}[text.lower()]
        else:
            value = kind(text)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"config argument {name}={text}: expected a value of type {kind.__name__}"
        ) from None
    group[leaf] = value


def from_fields(fields: Mapping[str, Any]) -> ConfigDict:
    """The config of a run from what it recorded, nested mappings of fields.

    A field that the record lacks, being older, has its default; one that is no longer
    there is left out.
    """
    config = default_config()
    for name, value in fields.items():
        if isinstance(value, Mapping):
            group = config.get(name, {})
            group.update({key: value[key] for key in value if key in group})
        elif name in config:
            config[name] = value
    return config


def get(config: ConfigDict, name: str) -> Any:
    """The value of a field by its dotted name."""
    for key in name.split("."):
        config = config[key]
    return config


def take_from_store(
    config: ConfigDict,
    explicit: Iterable[str],
    path: str,
    vocab_size: int,
    seq_len: int,
    end_of_text: int,
) -> None:
    """Sets vocabulary and row length to the store's, and what ends a document.

    Raises:
      UserError: one of them was set on the command line, to something else.
    """
    for name, value in (
        ("model.vocab_size", vocab_size),
        ("model.end_of_text", end_of_text),
        ("train.seq_len", seq_len),
    ):
        asked = get(config, name)
        if name in explicit and asked != value:
            raise UserError(
                f"config.{name}={asked}, but the store {path} has {value}: leave the "
                "flag out, or prepare a store that fits"
            )
    config.model.vocab_size, config.train.seq_len = vocab_size, seq_len
    # Where nothing reads it, it is no difference between two runs.
    config.model.end_of_text = end_of_text if config.model.document_mask else -1


def model_config(config: ConfigDict) -> ModelConfig:
    """The architecture, with what the config leaves open filled in."""
    fields = dict(config.model)
    end_of_text = fields.pop("end_of_text")
    if fields.pop("document_mask"):
        fields["document_end"] = end_of_text
    fields["num_kv_heads"] = fields["num_kv_heads"] or fields["num_heads"]
    fields["d_ff"] = fields["d_ff"] or -(-fields["d_model"] * 8 // 3 // 128) * 128
    return ModelConfig(**fields)


def optimizer_config(config: ConfigDict) -> OptimizerConfig:
    """The optimizer; automatic warm-up follows from the number of steps."""
    fields = dict(config.optimizer)
    if fields["warmup_steps"] < 0:
        fields["warmup_steps"] = min(config.train.steps // 10, 2000)
    return OptimizerConfig(steps=config.train.steps, **fields)


def step_options(config: ConfigDict, mesh: Mesh, num_probes: int) -> StepOptions:
    """How steps are computed on a mesh, with `num_probes` probe batches an update.

    Chunks default to what makes an alignment as large as a microbatch, which fits.
    """
    mixer = config.mixer
    shards = batch_shards(mesh)
    microbatch = config.train.batch_size // config.train.microbatches
    target = -(-mixer.target_rows // shards) * shards
    pieces = [n for n in range(shards, target + 1, shards) if target % n == 0]
    fits = mixer.chunk or max(microbatch // mixer.probe_rows, 1)
    return StepOptions(
        microbatches=config.train.microbatches,
        z_loss=config.train.z_loss,
        loss_chunk=config.train.loss_chunk,
        estimator=mixer.estimator,
        chunk=_even_chunk(num_probes, fits, mesh.shape["data"]),
        target_chunk=max(n for n in pieces if n <= max(microbatch, shards)),
        normalise=mixer.normalise,
        precondition=mixer.precondition,
        skip_nonfinite=config.train.skip_nonfinite > 0,
    )


def _even_chunk(num_probes, fits, data):
    """Domains a round: about `fits`, a multiple of the mesh's `data`, rounds alike."""
    each = -(-num_probes // data)  # domains of one part of the mesh
    rounds = -(-each * data // fits)
    return -(-each // min(rounds, each)) * data


def mixer_options(config: ConfigDict) -> MixerOptions:
    """η, β and floor; linear schedules over the run where an end is given."""

    def schedule(start, end):
        if end < 0:
            return start
        return optax.linear_schedule(start, end, config.train.steps)

    mixer = config.mixer
    return MixerOptions(
        eta=schedule(mixer.eta, mixer.eta_end),
        beta=schedule(mixer.beta, mixer.beta_end),
        floor=mixer.floor,
    )


def update_due(config: ConfigDict, step: int) -> bool:
    """Whether the weights move after train step `step` (the first step is 1)."""
    first = max(config.mixer.interval, config.mixer.start)
    return step >= first and (step - first) % config.mixer.interval == 0


def updates_before(config: ConfigDict, step: int) -> int:
    """How many updates follow train steps before `step`: the first is number 0."""
    first = max(config.mixer.interval, config.mixer.start)
    return max(0, -((first - step) // config.mixer.interval))


def next_update(config: ConfigDict, step: int) -> int:
    """The first step after `step` that an update follows."""
    first = max(config.mixer.interval, config.mixer.start)
    if step < first:
        return first
    return step + config.mixer.interval - (step - first) % config.mixer.interval

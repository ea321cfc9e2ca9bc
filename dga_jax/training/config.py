"""What a config becomes, and how one is changed. `fields` has the fields themselves."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.logs import perf
from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MIXERS, MixerState
from dga_jax.mixing.recipe import SCHEDULED, SWITCHES, Mixer, UnfitError
from dga_jax.model import kernels
from dga_jax.model.transformer import ModelConfig, matrix_parameter_count
from dga_jax.sharding import batch_shards, multiple, probe_shards
from dga_jax.training.fields import current, default_config, fields, get
from dga_jax.training.optimizer import OptimizerConfig
from dga_jax.training.steps import StepOptions

# Fields of the model that say where it comes from, and what is said of it.
_NOT_COMPUTED = ("from", "max_positions")


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


def _set(config: ConfigDict, name: str, text: str) -> None:
    field = fields().get(name)
    if field is None:
        raise UserError(f"config argument {name}={text}: no such config field")
    kind = type(field.default)
    try:
        if kind is bool:
            value = {"true": True, "false": False}[text.lower()]
        else:
            value = kind(current(name, text))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"config argument {name}={text}: expected a value of type {kind.__name__}"
        ) from None
    config.update_from_flattened_dict({name: value})


def from_fields(record: Mapping[str, Any]) -> ConfigDict:
    """The config of a run from what it recorded, nested mappings of fields.

    A field that the record lacks, being older, has its default; one that is no longer
    there is left out; a value that is written otherwise by now is the same.
    """
    config = default_config()
    _fill(config, record)
    return config


def _fill(group: ConfigDict, record: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in record.items():
        if isinstance(group.get(name), ConfigDict):
            _fill(group[name], value, f"{prefix}{name}.")
        elif name in group:
            group[name] = current(f"{prefix}{name}", value)


def update_former(config: ConfigDict) -> None:
    """Writes values that flags gave as an older version had them as they are now."""
    for name in fields():
        value = get(config, name)
        if current(name, value) != value:
            config.update_from_flattened_dict({name: current(name, value)})


def take_from_store(
    config: ConfigDict,
    explicit: Iterable[str],
    path: str,
    vocab_size: int,
    seq_len: int,
    end_of_text: int,
) -> None:
    """Sets vocabulary and row length to the store's, and what ends a document.

    A model that the run begins with keeps its vocabulary, which may be larger than that
    of its tokenizer.

    Raises:
      UserError: one of them was set on the command line, to something else; or the
        model has fewer tokens.
    """
    if origin := config.model["from"]:
        if config.model.vocab_size < vocab_size:
            raise UserError(
                f"config.model.from={origin}: it has {config.model.vocab_size:,} tokens"
                f" and the store {path} {vocab_size:,}; prepare the store with"
                f" --tokenizer={origin}"
            )
        vocab_size = config.model.vocab_size
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


def model_config(config: ConfigDict, mesh: Mesh | None = None) -> ModelConfig:
    """The architecture, with what the config leaves open filled in.

    Args:
      config: of a run.
      mesh: that its steps run on, whose devices decide the kernel of attention; None:
        XLA's, which runs anywhere and has every derivative.

    Raises:
      UserError: the config names a kernel that cannot run on the mesh.
    """
    fields = {k: v for k, v in config.model.items() if k not in _NOT_COMPUTED}
    fields["attention"] = "xla"
    if mesh is not None:
        fields |= {"attention": attention_kernel(config, mesh)[0], "mesh": mesh}
    end_of_text = fields.pop("end_of_text")
    if fields.pop("document_mask"):
        fields["document_end"] = end_of_text
    fields["num_kv_heads"] = fields["num_kv_heads"] or fields["num_heads"]
    fields["head_dim"] = fields["head_dim"] or fields["d_model"] // fields["num_heads"]
    fields["d_ff"] = fields["d_ff"] or -(-fields["d_model"] * 8 // 3 // 128) * 128
    return ModelConfig(**fields)


def flops_per_token(config: ConfigDict) -> float:
    """Of forward and backward pass; see `perf.model_flops_per_token`."""
    model = model_config(config)
    matrices = matrix_parameter_count(model)
    return perf.model_flops_per_token(
        matrices,
        model.num_layers,
        model.num_heads * model.head_width,
        config.train.seq_len,
    )


def attention_kernel(config: ConfigDict, mesh: Mesh) -> tuple[str, str]:
    """The kernel of a run and, where it is not the platform's, why; see `choose`."""
    model = config.model
    shape = kernels.Shape(
        model.dtype,
        model_config(config).head_width,
        config.train.seq_len,
        model.document_mask,
    )
    chip = kernels.Chip.of(mesh.devices.flat[0])
    return kernels.choose(model.attention, chip, shape)


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
    target = multiple(mixer.target_rows, shards)
    pieces = [n for n in range(shards, target + 1, shards) if target % n == 0]
    fits = mixer.chunk or max(microbatch // mixer.probe_rows, 1)
    return StepOptions(
        microbatches=config.train.microbatches,
        z_loss=config.train.z_loss,
        loss_chunk=config.train.loss_chunk,
        estimator=mixer.estimator,
        chunk=_even_chunk(num_probes, fits, probe_shards(mesh, mixer.probe_rows)),
        target_chunk=max(n for n in pieces if n <= max(microbatch, shards)),
        normalise=mixer.normalise,
        precondition=mixer.precondition,
        head=mixer.head or MIXERS[mixer.name].head,
        skip_nonfinite=config.train.skip_nonfinite > 0,
    )


def _even_chunk(num_probes: int, fits: int, shards: int) -> int:
    """Domains a round: about `fits`, a multiple of the mesh's parts, rounds alike."""
    each = -(-num_probes // shards)  # domains of one part of the mesh
    rounds = -(-each * shards // fits)
    return -(-each // min(rounds, each)) * shards


def make_mixer(config: ConfigDict, targets: int = 1) -> Mixer:
    """The mixer that the config names, with its options.

    Args:
      config: of the run.
      targets: how many it has.

    Raises:
      UserError: a file that an option names cannot be read, or holds no numbers.
    """
    chosen = config.mixer
    recipe = MIXERS[chosen.name]
    own = {name: chosen[recipe.name][name] for name in recipe.options}
    own |= {n: _array(f"mixer.{recipe.name}.{n}", own[n]) for n in recipe.files}
    of_all = {
        **{name: schedule(config, name) for name in SCHEDULED},
        **{name: chosen[name] for name in SWITCHES},
        "seed": config.seed,
        "targets": targets,
        "batch_size": config.train.batch_size,
    }
    shared = {name: of_all[name] for name in recipe.shared}
    options = own | shared | {"floor": chosen.floor, "shrink": chosen.shrink}
    if any(own[name] is not None for name in recipe.files):
        return recipe(**options)
    return _mixer(recipe, **options)


# The same object for equal options, by which its program is known again. A schedule is
# another one each time, as are arrays.
_mixer = functools.lru_cache(maxsize=32)(lambda recipe, **options: recipe(**options))


def _array(field: str, path: str) -> np.ndarray | None:
    """What is in the file that an option of a mixer names, if it names one."""
    if not path:
        return None
    where = f"config.{field}={path}"
    try:
        given = np.load(path)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from None
    except Exception as error:  # NumPy lets those of zipfile and tokenize through
        raise UserError(f"{where}: no .npy file of numbers: {error}") from None
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iuf":
        raise UserError(f"{where}: expected one array of numbers, as np.save writes it")
    with np.errstate(over="ignore"):  # which is no finite number, below
        given = given.astype(np.float32)
    if not np.isfinite(given).all():
        raise UserError(f"{where}: it holds numbers that are not finite")
    return given


def first_state(
    config: ConfigDict, mixer: Mixer, weights: jax.typing.ArrayLike
) -> MixerState:
    """The state that a mixer of the config begins with.

    Raises:
      UserError: what a file holds does not fit the domains.
    """
    try:
        return mixers.init(mixer, weights)
    except UnfitError as error:
        field = f"mixer.{config.mixer.name}.{error.option}"
        raise UserError(f"config.{field}={get(config, field)}: {error}") from None


def schedule(config: ConfigDict, name: str) -> optax.ScalarOrSchedule:
    """η or β, as `name` says: a number, or linear over the run to where it ends."""
    start, end = config.mixer[name], config.mixer[f"{name}_end"]
    if end < 0:
        return start
    return optax.linear_schedule(start, end, config.train.steps)


def first_step(config: ConfigDict) -> int:
    """Steps done before the first of a run: 0, or those of the run it goes on from."""
    origin, what = config.start["from"], config.start.what
    return int(origin.rpartition("@")[2]) if origin and what == "all" else 0


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

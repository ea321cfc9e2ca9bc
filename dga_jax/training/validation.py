"""What makes a config invalid, whatever the store."""

from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.logs import metrics
from dga_jax.mixing.mixers import MIXERS
from dga_jax.mixing.recipe import SWITCHES, Recipe
from dga_jax.mixing.signals import COUNTED, OF_EQUAL_ROWS
from dga_jax.training.fields import fields, get

_LARGEST = 2**53  # integers beyond are not all there in float64


def validate(config: ConfigDict) -> None:
    """Checks every field that can be checked without a store or a mesh.

    Raises:
      UserError: naming the field, its value and what is allowed.
    """
    for name, field in fields().items():
        value = get(config, name)
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise UserError(f"config.{name}={value}: must be within ±{_LARGEST:,}")
        if field.rule and not field.rule.allows(value):
            raise UserError(f"config.{name}={value!r}: {field.rule.says}")
    _validate_relations(config)


def _validate_relations(config: ConfigDict) -> None:
    model, train = config.model, config.train
    metrics.chosen(config.log.trackers)
    kv_heads = model.num_kv_heads or model.num_heads
    if model.head_dim % 2:
        raise UserError(
            f"config.model.head_dim={model.head_dim}: must be even; 0 is d_model / "
            "num_heads"
        )
    if not model.head_dim and model.d_model % (2 * model.num_heads):
        raise UserError(
            f"config.model.d_model={model.d_model}: must be an even multiple of "
            f"model.num_heads={model.num_heads}, or give model.head_dim"
        )
    if model.rope_high_frequency <= model.rope_low_frequency:
        raise UserError(
            f"config.model.rope_high_frequency={model.rope_high_frequency}: must be "
            f"above model.rope_low_frequency={model.rope_low_frequency}"
        )
    if model["from"] and config.start["from"]:
        raise UserError(
            f"config.model.from={model['from']}: the run already begins with "
            f"config.start.from={config.start['from']}; leave one of them out"
        )
    if model.num_heads % kv_heads:
        raise UserError(
            f"config.model.num_kv_heads={kv_heads}: must divide "
            f"model.num_heads={model.num_heads}"
        )
    if train.batch_size % train.microbatches:
        raise UserError(
            f"config.train.batch_size={train.batch_size}: must be a multiple of "
            f"train.microbatches={train.microbatches}"
        )
    if config.eval.lm_eval.every:
        from dga_jax.training import benchmarks  # few runs have any

        benchmarks.options(config).check()
    _validate_mixer(config.mixer)
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


def takes(recipe: Recipe) -> dict[str, bool]:
    """By the fields of `mixer` that not all have a use for: whether this one has."""
    aligns = "alignments" in recipe.reads
    taken = {name: name in recipe.shared for name in SWITCHES}
    taken |= {"shrink": aligns, "head": aligns, "targets": aligns}
    # Others are measured on batches that have equally many rows of each domain.
    taken["probe_by_error"] = aligns and not set(recipe.reads) & set(OF_EQUAL_ROWS)
    return taken


def _validate_mixer(mixer: ConfigDict) -> None:
    """What is asked for must be something that this mixer knows."""
    recipe = MIXERS[mixer.name]
    for name, taken in takes(recipe).items():
        if mixer[name] and not taken:
            raise UserError(
                f"config.mixer.{name}={mixer[name]}: mixer.name={mixer.name} has no "
                "use for it; leave it out"
            )
    compares = "reference_losses" in recipe.reads
    if compares and not mixer.reference_run:
        raise UserError(
            f"config.mixer.reference_run is not set: mixer.name={mixer.name} compares "
            "with the losses of an earlier run on the same store; name its workdir"
        )
    if mixer.reference_run and not compares:
        raise UserError(
            f"config.mixer.reference_run={mixer.reference_run}: mixer.name="
            f"{mixer.name} has no use for it; leave it out"
        )
    if mixer.basis and set(recipe.reads) & set(COUNTED):
        raise UserError(
            f"config.mixer.basis={mixer.basis}: mixer.name={mixer.name} reads what is "
            "counted by domain, not by distribution; leave the basis out"
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
